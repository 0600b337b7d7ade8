"""Where compiled kernels are kept, so that only the first start ever compiles.

numba keeps one entry a function and renews it when the function's *own* file changes; a kernel that inlined another
file's function, or a constant, would go stale unseen. So the folder's name carries a hash over all kernel sources.
And without a writable folder numba fails at import; here it gets a temporary one.
"""

from __future__ import annotations

import atexit
import gc
import hashlib
import importlib.util
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from utxo_index import __version__

_IMPORTS_NUMBA = re.compile(r"^(from|import) numba\b", re.MULTILINE)
_KERNEL_SOURCES = {"utxo_index": ("core_files/*.py", "tables/*_fns.py"), "utxo_index_cpu_fallback": ("*_fns.py",)}
_OTHER_SOURCES = {"utxo_index": ("schema.py",)}
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


@contextmanager
def loading(say: Callable[[str], None] = lambda text: None) -> Iterator[None]:
    """Around the import of kernels: prepares, and puts off the garbage collector.

    It makes half a million objects, all of which stay: looking through them again and again takes a tenth of the time.
    `say` is told where the kernels must be compiled first.
    """
    if not holds_kernels(prepare()):
        say("Compiling the kernels, this time only: some 15 seconds.")
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if collects:
            gc.enable()


def holds_kernels(folder: Path) -> bool:
    """Whether something was compiled into a cache folder already, and may be read."""
    try:
        return any(folder.glob("**/*.nbi"))
    except OSError:
        return False


def cache_folder() -> Path:
    """The folder for this version, these sources and these modes, below the user's cache folder."""
    from platformdirs import user_cache_path

    return user_cache_path("utxo-index", appauthor=False) / f"{__version__}-{_digest()[:12]}"


def kernel_modules() -> list[str]:
    """Names of all modules that hold kernels; importing one compiles them, as their signatures are explicit."""
    return [
        ".".join((package, *path.relative_to(_folder(package)).with_suffix("").parts))
        for package, path in _files(_KERNEL_SOURCES)
        if path.stem != "__init__" and _IMPORTS_NUMBA.search(path.read_text(encoding="utf-8"))
    ]


def _files(sources: Mapping[str, Iterable[str]]) -> list[tuple[str, Path]]:
    """(package, file) for patterns of files by package, in a fixed order."""
    return [
        (package, path)
        for package, patterns in sources.items()
        for pattern in patterns
        for path in sorted(_folder(package).glob(pattern))
    ]


def _folder(package: str) -> Path:
    """Where a package lies; it is not imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"the package {package} is not installed beside utxo_index")
    return Path(spec.submodule_search_locations[0])


def _digest() -> str:
    """SHA-256 over the names and bytes of everything that can end up inside a kernel."""
    digest = hashlib.sha256()
    for _, path in _files(_KERNEL_SOURCES) + _files(_OTHER_SOURCES):
        digest.update(f"{path.name} {path.stat().st_size}\n".encode())
        digest.update(path.read_bytes())
    for name in _MODES:
        digest.update(f"{name}={os.environ.get(name, '')}\n".encode())
    return digest.hexdigest()
