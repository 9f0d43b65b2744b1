# Each target does its own set-up, in a virtual environment in the checkout.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
SOURCES := producers workers webhooks examples tests

.PHONY: help demo apps test chaos bench lint format clean

help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: $(VENV)/.run ## the tour: the whole story on a real store, in under 15 seconds
	$(BIN)/credits tour

apps: $(VENV)/.run ## everything at once, with four apps to use in a browser, until Ctrl-C
	$(BIN)/credits demo

test: $(VENV)/.dev ## all tests, in some fifteen minutes
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal

chaos: $(VENV)/.dev ## the fault tests, for longer
	CREDITS_CHAOS=long $(BIN)/python -m pytest tests/chaos tests/property --timeout=3600

bench: $(VENV)/.run ## charges per second, beside three other ways
	$(BIN)/credits bench

lint: $(VENV)/.dev ## format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy $(SOURCES)

format: $(VENV)/.dev ## rewrite the sources in our format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist

$(VENV)/.run: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e '.[all]'
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	$(PIP) -e '.[all,dev]'
	@touch $@
