# `make demo` needs Python 3.11 or newer and pip; nothing else has to be installed or running.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check
# Options for the command behind a target: make test ARGS='-k hold -x'
ARGS   ?=
TYPED  := $(wildcard producers workers webhooks tests bench examples)

.DEFAULT_GOAL := help
.PHONY: help demo test chaos bench coverage lint format wheel freeze venv clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.installed ## The guided tour, on a store that it starts itself
	@$(BIN)/credits tour $(ARGS)

test: $(VENV)/.installed-dev ## All tests; parts without their server are skipped and say so
	@$(BIN)/python -m pytest $(ARGS)

chaos: $(VENV)/.installed-dev ## The chaos tests, for longer
	@CREDITS_CHAOS=long $(BIN)/python -m pytest -m chaos --timeout=3600 $(ARGS)

bench: $(VENV)/.installed ## Measure charges per second and latency
	@$(BIN)/credits bench $(ARGS)

coverage: $(VENV)/.installed-dev ## The tests with branch coverage
	@$(BIN)/python -m pytest --cov --cov-report=term-missing $(ARGS)

lint: $(VENV)/.installed-dev ## ruff check, ruff format --check, mypy --strict
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy $(TYPED)

format: $(VENV)/.installed-dev ## Let ruff rewrite the sources
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

wheel: $(VENV)/.installed-dev ## Build dist/*.whl and dist/*.tar.gz
	@$(BIN)/python -m build --outdir dist .

freeze: ## Resolve the dependencies afresh into constraints.txt
	@rm -rf $(VENV)-freeze && $(PYTHON) -m venv $(VENV)-freeze
	@$(VENV)-freeze/bin/python -m pip --disable-pip-version-check install --quiet -e '.[all,dev]'
	@head -n 2 constraints.txt > constraints.txt.new
	@$(VENV)-freeze/bin/python -m pip freeze --exclude-editable >> constraints.txt.new
	@mv constraints.txt.new constraints.txt && rm -rf $(VENV)-freeze

venv: $(VENV)/.installed-dev ## Only create .venv, with the tools for development

clean: ## Remove .venv and what the tools left behind
	@rm -rf $(VENV) $(VENV)-freeze dist .coverage htmlcov .hypothesis .mypy_cache .pytest_cache .ruff_cache

# Two stamps, so that a first `make demo` does not wait for the tools of development.
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "This needs Python 3.11 or newer, but $(PYTHON) is: $$($(PYTHON) --version 2>&1)." >&2; \
	  echo "Name another one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "Installing into $(VENV) (once) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --quiet -c constraints.txt -e '.[all]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@$(PIP) install --quiet -c constraints.txt -e '.[all,dev]'
	@touch $@
