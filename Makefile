# Every target sets up .venv with what it needs; a second run finds it ready.
# PYTHON: the Python (3.11 or newer) that .venv is made from.  PYTEST: more options for pytest, as PYTEST="-k conf".

PYTHON ?= python3
PYTEST ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.DEFAULT_GOAL := help
.PHONY: help demo test soak lint mutants bench clean

help:
	@echo "make demo    build an index of a small chain that Bitcoin Core wrote, and ask it three questions"
	@echo "make test    all checks: formatting, lint, types, import contracts, tests"
	@echo "make soak    the long forms of the tests: every system call killed, every byte flipped, hours of fuzzing"
	@echo "make lint    the checks without the tests"
	@echo "make mutants break the CUDA kernels in every way on a list, and see that the tests notice; 3 to 15 minutes"
	@echo "make bench   measure speed and memory; figures in bench/RESULTS.md"
	@echo "make clean   remove .venv, demo/ and all caches"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "utxo-index needs Python 3.11 or newer; choose one as in: make PYTHON=python3.12 demo")'
	$(PYTHON) -m venv $(VENV)

# One stamp per set of dependencies, renewed when they change.
$(VENV)/core.stamp: pyproject.toml | $(BIN)/python
	$(PIP) -e .
	@touch $@

$(VENV)/test.stamp: pyproject.toml | $(BIN)/python
	$(PIP) -e ".[test]"
	@touch $@ $(VENV)/core.stamp

$(VENV)/bench.stamp: pyproject.toml | $(BIN)/python
	$(PIP) -e ".[bench]"
	$(PIP) --no-deps blockchain-parser==0.1.6
	@touch $@ $(VENV)/core.stamp

# demo/node gets the layout of a real data folder: regtest/blocks/blk*.dat, rev*.dat, xor.dat.
demo: $(VENV)/core.stamp
	@rm -rf demo && mkdir -p demo/node
	@$(BIN)/python -m tarfile -e tests/data/regtest/main_xor.tar.xz demo/node
	@mv demo/node/xor demo/node/regtest
	$(BIN)/utxo-index build --datadir demo/node --index demo/index
	$(BIN)/utxo-index realized-price --index demo/index --format table
	$(BIN)/utxo-index active-supply-mean --index demo/index --format table
	$(BIN)/utxo-index urpd --index demo/index --bins ath:100 -o demo/urpd.csv
	$(BIN)/utxo-index urpd --index demo/index --bins ath:20 --format table

lint: $(VENV)/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Compiled once here, not once in each test process.
test: lint
	@$(BIN)/utxo-index warmup
	$(BIN)/python -m pytest -n 2 $(PYTEST)

# Hours. UTXO_INDEX_SOAK asks for the long form, the others say how long; PYTEST="-k crash": only some of it;
# UTXO_INDEX_SOAK_SHARE=3/20: of the kill tests the fourth twentieth.
SOAK_TESTS := $(addprefix tests/test_,reorg_machine.py readers_and_writer.py crash.py crash_recovery.py power_cut.py \
	random_kills.py index_damage.py repair.py damage.py fuzz.py)

soak: lint
	@$(BIN)/utxo-index warmup
	UTXO_INDEX_SOAK=1 UTXO_INDEX_SOAK_SEEDS=200 UTXO_INDEX_SOAK_COMMITS=5000 UTXO_INDEX_DAMAGE_EXAMPLES=5000 \
		$(BIN)/python -m pytest -n 2 -o timeout=0 $(SOAK_TESTS) $(PYTEST)

mutants: $(VENV)/test.stamp
	$(BIN)/python tests/emulator/mutants.py

bench: $(VENV)/bench.stamp
	$(BIN)/python -m bench

clean:
	rm -rf $(VENV) demo .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
