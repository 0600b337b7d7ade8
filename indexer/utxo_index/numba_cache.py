"""Where compiled kernels are kept, so that only the first start ever compiles.

numba keeps one entry a function and renews it when the function's *own* file changes; a kernel that inlined another
file's function, or a constant, would go stale unseen. So the folder's name carries a hash over all kernel sources.
And without a writable folder numba fails at import; here it gets a temporary one.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import re
import shutil
import tempfile
from pathlib import Path

from utxo_index import __version__

_PACKAGE = Path(__file__).parent
_IMPORTS_NUMBA = re.compile(r"^(from|import) numba\b", re.MULTILINE)
_KERNEL_GLOBS = ("core_files/*.py", "tables/*_fns.py")
_OTHER_SOURCES = ("schema.py",)
_MODES = ("UTXO_INDEX_CHECKED_LOADS", "NUMBA_BOUNDSCHECK", "NUMBA_OPT")
"""Environment variables that change the code which comes out; numba does not look at them in its cache."""


def prepare() -> Path:
    """Set NUMBA_CACHE_DIR, unless the user did. To be called before numba is imported.

    Returns the folder in force. One that cannot be written is replaced by a temporary one that goes with the process.
    """
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    if chosen:
        return Path(chosen)
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError:
        folder = Path(tempfile.mkdtemp(prefix="utxo-index-numba-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["NUMBA_CACHE_DIR"] = str(folder)
    return folder


def cache_folder() -> Path:
    """The folder for this version, these sources and these modes, below the user's cache folder."""
    from platformdirs import user_cache_path

    return user_cache_path("utxo-index", appauthor=False) / f"{__version__}-{_digest()[:12]}"


def kernel_modules() -> list[str]:
    """Names of all modules that hold kernels; importing one compiles them, as their signatures are explicit."""
    paths = [path for pattern in _KERNEL_GLOBS for path in sorted(_PACKAGE.glob(pattern))]
    return [
        f"utxo_index.{path.parent.name}.{path.stem}"
        for path in paths
        if path.stem != "__init__" and _IMPORTS_NUMBA.search(path.read_text(encoding="utf-8"))
    ]


def _digest() -> str:
    """SHA-256 over the names and bytes of everything that can end up inside a kernel."""
    digest = hashlib.sha256()
    for pattern in (*_KERNEL_GLOBS, *_OTHER_SOURCES):
        for path in sorted(_PACKAGE.glob(pattern)):
            digest.update(f"{path.name} {path.stat().st_size}\n".encode())
            digest.update(path.read_bytes())
    for name in _MODES:
        digest.update(f"{name}={os.environ.get(name, '')}\n".encode())
    return digest.hexdigest()
