# You need Python 3.11 to 3.13 and make; every other program is installed into .venv.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
NOTEBOOKS := .venv/.notebooks

.DEFAULT_GOAL := help
.PHONY: help install demo test slow lint types bench notebooks lock clean

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

install: $(STAMP) ## Create .venv and install the program and its pinned packages there

# uv of the path, or the one that is installed into .venv.
UV = command -v uv || command -v $(BIN)/uv
# The pins are complete and hashed, so neither uv nor pip resolves anything. pip is the
# fallback, e.g. if only pip is configured for the index that can be reached. Compiling
# all packages takes 44 s of CPU, and the first start compiles what it needs in 19 s; but
# where Python may not write bytecode, each start would take these.
UV_INSTALL = pip install --python $(BIN)/python \
    $(if $(PYTHONDONTWRITEBYTECODE),--compile-bytecode)
PIP_INSTALL = $(BIN)/python -m pip --disable-pip-version-check install
define install
uv=$$($(UV)) && $$uv $(UV_INSTALL) $(1) \
    || { echo "Installing with pip, which takes about three minutes ..."; \
    $(BIN)/python -m ensurepip >/dev/null && $(PIP_INSTALL) $(1); }
endef

$(STAMP): constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 14) else "Python 3.11 to 3.13 is needed, this is " + sys.version.split()[0] + "; name another: make PYTHON=python3.12")'
	@$(PYTHON) -m venv --without-pip .venv
	@{ $(UV); } >/dev/null || { echo "Installing uv into .venv ..."; \
	    $(BIN)/python -m ensurepip >/dev/null && \
	    $(PIP_INSTALL) --require-hashes -r constraints-uv.txt; } || true
	@$(call install,--no-deps --require-hashes -r constraints.txt)
	@$(call install,--no-deps --no-build-isolation --editable .)
	@touch $(STAMP)

# JupyterLab is not among the pins: it would slow down every start of Prefect.
$(NOTEBOOKS): constraints-notebooks.txt $(STAMP)
	@$(call install,--no-deps --require-hashes -r constraints-notebooks.txt)
	@touch $(NOTEBOOKS)

demo: install ## Migrate a sample between stores that are started on this machine
	@$(BIN)/enterprises demo

# Tests start the program hundreds of times: without bytecode each start compiles it.
PYTEST = PYTHONDONTWRITEBYTECODE= $(BIN)/$(if $(COVERAGE),coverage run,python) \
    -m pytest --numprocesses auto --dist loadgroup

# COVERAGE=1 measures lines and branches too, and fails below what is covered now.
test: install ## Run the tests, except those that take many seconds
	@$(if $(COVERAGE),$(BIN)/coverage erase)
	@$(PYTEST) -m "not slow"
	@$(if $(COVERAGE),$(BIN)/coverage combine --quiet && $(BIN)/coverage report)

slow: install ## Run the tests that take many seconds
	@$(PYTEST) -m slow

lint: install ## Check style, format and imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-logo --no-cache

types: install ## Check types
	@$(BIN)/mypy

# Prints one JSON object with all ratios. ROWS=20000 is quick; BENCH="--only load" a part.
ROWS ?= 100000 300000 1000000
bench: install ## Measure the program beside other ways to do the same
	@$(BIN)/python -m tests.benchmarks.side_by_side --rows $(ROWS) $(BENCH)

# JupyterLab refuses to run as root unless that is allowed.
notebooks: $(NOTEBOOKS) ## Open the notebooks in JupyterLab
	@$(BIN)/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) notebooks

# Pins for Python 3.11 to 3.13, with hashes and without index URLs.
COMPILE = $$uv pip compile --universal --python-version 3.11 --generate-hashes \
    --no-header --no-annotate --no-emit-index-url --quiet
lock: ## Write the pins of all packages anew, with uv
	@uv=$$($(UV)) && $(COMPILE) pyproject.toml --extra embedded --extra dask --group dev \
	    --output-file constraints.txt
	@uv=$$($(UV)) && $(COMPILE) pyproject.toml --extra notebooks \
	    --constraints constraints.txt --output-file constraints-notebooks.txt
	@uv=$$($(UV)) && $(COMPILE) --group uv --output-file constraints-uv.txt

clean: ## Remove .venv and all caches
	@rm -rf .venv .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis
