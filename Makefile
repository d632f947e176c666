# Every target creates .venv. You need Python 3.11 to 3.13 and make.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: install demo test slow lint types bench notebooks lock clean

install: $(STAMP)

# The pins are complete and hashed, so pip resolves nothing and installs nothing else.
$(STAMP): constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 14) else "Python 3.11 to 3.13 is needed, this is " + sys.version.split()[0] + "; name another: make PYTHON=python3.12")'
	@echo "Installing into .venv (a minute or two, once) ..."
	@$(PYTHON) -m venv .venv
	@$(PIP) --no-deps --require-hashes -r constraints.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

demo: install
	@$(BIN)/enterprises demo

PYTEST = $(BIN)/$(if $(COVERAGE),coverage run,python) -m pytest --numprocesses auto \
    --dist loadgroup

# COVERAGE=1 measures lines and branches too, and fails below what is covered now.
test: install
	@$(if $(COVERAGE),$(BIN)/coverage erase)
	@$(PYTEST) -m "not slow"
	@$(if $(COVERAGE),$(BIN)/coverage combine --quiet && $(BIN)/coverage report)

slow: install
	@$(PYTEST) -m slow

lint: install
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-logo --no-cache

types: install
	@$(BIN)/mypy

# Prints one JSON object with all ratios. ROWS=20000 is quick; BENCH="--only load" a part.
ROWS ?= 100000 300000 1000000
bench: install
	@$(BIN)/python -m tests.benchmarks.side_by_side --rows $(ROWS) $(BENCH)

# JupyterLab is not among the pins: it would slow down every start of Prefect.
notebooks: install
	@$(PIP) --no-build-isolation --editable ".[notebooks]"
	@$(BIN)/jupyter lab notebooks

# Pins for Python 3.11 to 3.13, with hashes and without index URLs.
lock:
	@uv pip compile pyproject.toml --extra embedded --extra dask --group dev \
	    --universal --python-version 3.11 --generate-hashes --no-header \
	    --no-annotate --no-emit-index-url --quiet --output-file constraints.txt

clean:
	@rm -rf .venv .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis
