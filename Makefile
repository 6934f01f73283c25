# Needs Python 3.11 or newer and make; everything else is installed into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# One thread a process: the tests run in two worker processes, and the demonstration's small batches cost more
# to share among threads than they gain.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 NUMBA_NUM_THREADS=1

.PHONY: help demo test lint format clean

help:
	@echo "make demo    install into $(VENV) and find the anomalies of datasets/hypothyroid.csv.gz"
	@echo "make test    install into $(VENV), then lint, types, tests, README and examples"
	@echo "make lint    ruff and mypy only"
	@echo "make format  rewrite the code in the project's format"
	@echo "make clean   remove $(VENV), demo-output and caches"

demo: $(STAMP)
	$(ONE_THREAD) $(BIN)/python examples/demo.py

# While one core looks at the code, the other compiles what both test processes will need.
test: $(STAMP)
	@$(ONE_THREAD) $(BIN)/python tests/compile_kernels.py & compiling=$$!; \
	  $(MAKE) --no-print-directory lint; linted=$$?; wait $$compiling && exit $$linted
	$(ONE_THREAD) $(BIN)/python -m pytest -n 2 --dist worksteal -m "not benchmark" --cov --cov-report=term

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) demo-output build dist .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find flowdetect tests examples -name __pycache__ -type d -exec rm -rf {} +

# Installed again when one of these files is newer than the last installation.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "flowdetect needs Python 3.11 or newer as $(PYTHON); name another: make PYTHON=python3.12" >&2; exit 1; }
	@echo "installing into $(VENV) (a few minutes the first time)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]' --constraint constraints.txt
	@touch $@
