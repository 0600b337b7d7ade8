"""The byte kernels on hostile bytes, in the three forms of their loads: equal results, and not a byte out of bounds."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

FORMS = {
    "compiled": {},
    "checked": {"UTXO_INDEX_CHECKED_LOADS": "1"},
    "plain": {"NUMBA_DISABLE_JIT": "1"},
}
EXAMPLES = 500


@functools.cache
def fuzz(form: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own, with warnings as errors; the checked form has its own folder of compiled kernels."""
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"} | FORMS[form]
    script = Path(__file__).with_name("fuzz_kernels.py")
    command = [sys.executable, "-W", "error", script, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.mark.skipif(sys.platform == "win32", reason="no mprotect")
@pytest.mark.parametrize("form", FORMS)
def test_mutated_bytes(form):
    result = fuzz(form, "1", str(EXAMPLES))
    assert (result.returncode, result.stderr) == (0, "")
    name, n_good, digest = result.stdout.split()
    assert name == form
    assert EXAMPLES // 4 < int(n_good) < EXAMPLES  # neither all rubbish nor all sound
    assert (n_good, digest) == tuple(fuzz("compiled", "1", str(EXAMPLES)).stdout.split()[1:])
    # and the net holds: with less slack than the kernels ask for, they are caught
    caught = fuzz(form, "1", str(EXAMPLES), "0")
    if form == "compiled":
        assert caught.returncode == -signal.SIGSEGV
    else:
        assert caught.returncode == 1
        assert "IndexError" in caught.stderr
