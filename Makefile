# One place for every command. A fresh machine needs Python 3.11 or newer and make; uv is taken from PATH or installed into the environment.

PYTHON ?= python3
UV_VERSION := 0.13.8
VENV := .venv
BIN := $(VENV)/bin
UV = $(or $(shell command -v uv 2>/dev/null),$(abspath $(BIN)/uv))
INSTALL = VIRTUAL_ENV=$(abspath $(VENV)) $(UV) pip install --quiet
LOCK = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate pyproject.toml --group build

# All tests: a process per core, each with its own PostgreSQL. Some tests: in this process, because that starts sooner and lets a debugger in.
TOGETHER := -n logical --maxprocesses 4 --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help serve test check format bench docs lock clean

help: ## Show this
	@sed -n 's/^\([a-z]*\):.*## /  make \1|/p' $(MAKEFILE_LIST) | column -t -s '|' 2>/dev/null || grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST)

serve: $(VENV)/.installed ## Run PiCloud here (its settings: .venv/bin/picloud serve --help)
	@exec $(BIN)/picloud serve $(ARGS)

test: $(VENV)/.installed-dev ## Run the tests (ARGS="-k name" for some)
	@exec $(BIN)/pytest -q $(or $(ARGS),$(TOGETHER))

check: $(VENV)/.installed-dev ## Lint, formatting, types, direction of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(VENV)/.installed-dev ## Format the code and fix what can be fixed
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(VENV)/.installed-bench ## Measure against peers, as ratios within one run
	@exec $(BIN)/python -m benchmarks $(ARGS)

docs: $(VENV)/.installed-dev ## Build the documentation as a site (build/site)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

lock: $(VENV)/.uv ## Choose dependencies anew and lock them with hashes
	$(LOCK) --upgrade -o requirements.txt
	$(LOCK) --upgrade --group dev -c requirements.txt -o requirements-dev.txt
	$(LOCK) --upgrade --group dev --group bench -c requirements-dev.txt -o requirements-bench.txt

clean: ## Remove the environment and caches, not the data
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Compiled once here, so that no start compiles, wherever it runs and whoever may write there.
# Stamps: what stands in them is installed. Only additions, so that serving and testing share one environment; `make clean` starts afresh.
$(VENV)/.uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "PiCloud needs Python 3.11 or newer; name one: make PYTHON=python3.11 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@command -v uv >/dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@touch $@

$(VENV)/.installed: $(VENV)/.uv requirements.txt pyproject.toml
	@echo "Installing PiCloud into $(VENV) ..."
	@$(INSTALL) --require-hashes --compile-bytecode -r requirements.txt
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m compileall -q domain projections adapters runtime migrations web
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt
	@$(INSTALL) --require-hashes -r requirements-dev.txt
	@touch $@

$(VENV)/.installed-bench: $(VENV)/.installed-dev requirements-bench.txt
	@$(INSTALL) --require-hashes -r requirements-bench.txt
	@touch $@
