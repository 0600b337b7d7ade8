"""The three source roots, and what the wheel holds."""

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import utxo_index

ROOT = Path(__file__).parent.parent
SOURCE_ROOTS = {
    "indexer": "utxo_index",
    "kernels": "utxo_index_kernels",
    "cpu_fallback": "utxo_index_cpu_fallback",
}


def test_source_roots_are_no_packages():
    """`indexer/__init__.py` would put a package called `indexer` over another project's."""
    for folder, package in SOURCE_ROOTS.items():
        assert not (ROOT / folder / "__init__.py").exists()
        assert (ROOT / folder / package / "__init__.py").is_file()


def test_source_roots_are_listed_alike():
    """A fourth root needs a line in each of these lists."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    hatch = settings["hatch"]["build"]
    assert hatch["dev-mode-dirs"] == settings["ruff"]["src"] == settings["mypy"]["files"] == list(SOURCE_ROOTS)
    assert hatch["targets"]["wheel"]["packages"] == [f"{f}/{p}" for f, p in SOURCE_ROOTS.items()]
    assert settings["importlinter"]["root_packages"] == list(SOURCE_ROOTS.values())


def test_wheel_holds_packages_prices_and_licences(tmp_path):
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path], cwd=ROOT, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    info = f"utxo_index-{utxo_index.__version__}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(f"{info}/METADATA").decode()
        scripts = archive.read(f"{info}/entry_points.txt").decode()
    sources = {
        str(path.relative_to(ROOT / folder))
        for folder, package in SOURCE_ROOTS.items()
        for path in (ROOT / folder / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert sources == {name for name in names if not name.startswith(info)}
    assert "utxo_index/prices/data/btc_usd_daily.csv" in sources
    assert {f"{package}/py.typed" for package in SOURCE_ROOTS.values()} <= sources
    assert {f"{info}/licenses/LICENSE", f"{info}/licenses/NOTICE"} <= names
    assert re.search(r"^Name: utxo-index$", metadata, re.MULTILINE)
    assert "utxo-index = utxo_index.cli:main" in scripts


def test_notice_names_the_origin_of_the_prices():
    notice = (ROOT / "NOTICE").read_text()
    assert "Copyright (c) 2025 Bitcoin Research Kit" in notice
    assert "indexer/utxo_index/prices/data/btc_usd_daily.csv" in notice


def test_a_build_without_a_snapshot_loads_none_of_its_kernels():
    """They take as long to compile as all others together."""
    kernels = "'snapshot_fns' in name or 'set_hash' in name or 'secp256k1' in name"
    program = f"import sys, utxo_index.build; print(*(name for name in sys.modules if {kernels}))"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []
