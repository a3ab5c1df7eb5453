# `make help` lists what can be made. Everything lives in $(VENV); nothing is installed elsewhere.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# One stamp for each set of locked requirements: made once, made again when its lock changes.
DEMO := $(VENV)/demo.stamp
TEST := $(VENV)/test.stamp
DOCS := $(VENV)/docs.stamp

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow lint format types docs bench wheel lock clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(TEST)  ## create the environment, with everything that tests and checks need

demo: $(DEMO)  ## explain real photos and digits: writes pellucid-demo/index.html
	$(BIN)/pellucid demo

# One torch thread for each worker: two workers with two threads each would fight for two cores.
test: $(TEST)  ## run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

test-slow: $(TEST)  ## run the long and the statistical tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m slow

lint: $(TEST)  ## check style and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: $(TEST)  ## repair style and format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: $(TEST)  ## check types, strictly
	$(BIN)/mypy

docs: $(DOCS)  ## build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

bench: $(TEST)  ## measure speed and memory beside the peers
	@for script in benchmarks/*.py; do echo "== $$script"; OMP_NUM_THREADS=1 $(BIN)/python $$script || exit 1; done

wheel: $(DEMO)  ## build the wheel into dist/
	$(PIP) wheel . --no-deps --no-build-isolation --wheel-dir dist

lock:  ## write the locked requirements from what is installed
	$(BIN)/python requirements/lock.py

clean:  ## remove everything that was made
	rm -rf $(VENV) pellucid-demo dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis

# Torch comes first and with its own requirements, as its build for this platform needs them; the lock gives every
# version. The rest is complete in the lock, and some data packages ask for more than they need: hence --no-deps.
$(DEMO): requirements/demo.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "pellucid: no $(PYTHON) here; install Python 3.11 or newer, or: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "pellucid: needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) -V 2>&1); try: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "pellucid: $(PYTHON) has no venv; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@echo "pellucid: setting up $(VENV) (a few minutes, once)"
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --constraint requirements/demo.txt torch
	$(PIP) install --no-deps --requirement requirements/demo.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(TEST): requirements/test.txt $(DEMO)
	$(PIP) install --no-deps --requirement requirements/test.txt
	@touch $@

$(DOCS): requirements/docs.txt $(DEMO)
	$(PIP) install --no-deps --requirement requirements/docs.txt
	@touch $@
