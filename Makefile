.DEFAULT_GOAL := help
PYTHON ?= python3
PIP_INSTALL = PIP_ROOT_USER_ACTION=ignore .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes
UV_COMPILE = .venv/bin/uv pip compile --quiet --generate-hashes --no-strip-extras --no-emit-index-url --no-emit-find-links --universal --python-version 3.11 --custom-compile-command 'make lock'

# A process for each core, up to four. With one alone, or with `-p no:xdist`, all is the same and takes longer.
PYTEST = .venv/bin/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder
COVERAGE = --cov --cov-report=term:skip-covered

# Stamps carry a checksum of the lock they were made from: only a change of its content installs anything.
RUN_READY := .venv/run-$(firstword $(shell cksum < requirements.lock))
DEV_READY := .venv/dev-$(firstword $(shell cksum < requirements-dev.lock))

help: ## Show what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(RUN_READY) ## Start the whole engine, embedded Postgres and Valkey included
	@.venv/bin/python -m ops up

demo: $(RUN_READY) ## Let example domains publish, and print what arrives where
	@.venv/bin/python -m ops demo

test: $(DEV_READY) ## Run every test, with coverage
	@$(PYTEST) $(COVERAGE)

check: lint types imports contracts ## Run everything that CI runs: lint, types, layers, contract drift, tests
	@$(PYTEST) $(COVERAGE)

lint: $(DEV_READY) ## Check style
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .

format: $(DEV_READY) ## Put the style right
	@.venv/bin/ruff check --fix --quiet . ; .venv/bin/ruff format .

types: $(DEV_READY) ## Check types
	@.venv/bin/mypy

imports: $(DEV_READY) ## Check that layers import only downwards
	@.venv/bin/lint-imports

contracts: $(DEV_READY) ## Check that the generated contracts say what the code says
	@.venv/bin/python -m ops contracts --check

bench: $(DEV_READY) ## Measure: JSON lines and a table
	@.venv/bin/python -m ops bench

prove: $(DEV_READY) ## Break everything under load, and check that nothing is lost
	@.venv/bin/python -m ops prove

plans: $(DEV_READY) ## Explain every hot statement on a million rows
	@.venv/bin/python -m ops plans

lock: $(DEV_READY) ## Pin the newest allowed versions, with hashes
	$(UV_COMPILE) --upgrade requirements.in -o requirements.lock
	$(UV_COMPILE) --upgrade requirements-dev.in -o requirements-dev.lock

clean: ## Remove what was installed and made; keeps nothing of .bellhop either
	rm -rf .venv .bellhop .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage* htmlcov
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	@command -v $(PYTHON) >/dev/null || { echo "Bellhop needs Python 3.11 or newer, and $(PYTHON) was not found; set PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit("Bellhop needs Python 3.11 or newer; set PYTHON=python3.11 or the like" if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -m venv .venv || { rm -rf .venv; echo "Python has no venv module; install it (Debian: apt install python3-venv)"; exit 1; }

$(RUN_READY): | .venv/bin/python
	@echo "Installing what Bellhop needs …"
	@rm -f .venv/run* .venv/dev*
	@$(PIP_INSTALL) -r requirements.lock
	@touch $@

$(DEV_READY): | .venv/bin/python
	@echo "Installing what Bellhop and its development need …"
	@rm -f .venv/run* .venv/dev*
	@$(PIP_INSTALL) -r requirements-dev.lock
	@touch $@ $(RUN_READY)

.PHONY: help run demo test check lint format types imports contracts bench prove plans lock clean
