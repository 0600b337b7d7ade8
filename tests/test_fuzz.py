"""libFuzzer on every parser for a moment, from the corpus in tests/data/fuzz; UTXO_INDEX_SOAK=1 lets it run for long.

UTXO_INDEX_FUZZ_SECONDS says how long for each. What it finds is written beside the corpus's own files: mend it,
and keep the input there as found-N.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

CORPUS = Path(__file__).parent / "data" / "fuzz"
TARGETS = sorted(path.name for path in CORPUS.iterdir())
HAS_ATHERIS = importlib.util.find_spec("atheris") is not None
SECONDS = float(os.environ.get("UTXO_INDEX_FUZZ_SECONDS", 120 if "UTXO_INDEX_SOAK" in os.environ else 1))


@pytest.mark.skipif(
    not HAS_ATHERIS and os.environ.get("CI") != "true",
    reason=f"ATHERIS HAS NO WHEEL FOR PYTHON {sys.version_info[0]}.{sys.version_info[1]} HERE: NOTHING IS FUZZED",
)
@pytest.mark.timeout(SECONDS + 120)
@pytest.mark.parametrize("target", TARGETS)
def test_target(target, tmp_path):
    if not HAS_ATHERIS:
        pytest.fail("atheris is not installed, and CI=true asks for every test")
    flags = [f"-max_total_time={max(1, round(SECONDS))}", "-timeout=20", "-rss_limit_mb=3000", "-print_final_stats=1"]
    found = CORPUS / target / "unit-"
    command = [sys.executable, Path(__file__).with_name("fuzz_bytes.py"), target]
    result = subprocess.run(
        [*command, tmp_path, CORPUS / target, *flags, f"-artifact_prefix={found}"],
        env=os.environ | {"NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    n_runs = int(result.stderr.partition("stat::number_of_executed_units:")[2].split()[0])
    assert n_runs > len(list((CORPUS / target).iterdir()))


def test_every_target_has_a_corpus():
    source = Path(__file__).with_name("fuzz_bytes.py").read_text()
    names = source.partition("for target in (")[2].partition(")")[0].split(", ")
    assert sorted(names) == TARGETS
