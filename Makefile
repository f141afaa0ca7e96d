# Everything a developer does. `make test` and `make demo` also do the set-up they need.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help setup proto format lint lint-protos types test demo serve bench bench-events bench-peers tools peers lock clean

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## Make .venv and .triton; instant when nothing changed
	@$(BIN)/python -m deploy.triton setup

$(READY): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 13) else \
		"shopintent needs Python 3.11 or 3.12: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -e '.[server,trainer,client,dev]' -c requirements.lock
	@touch $@

proto: setup ## Generate the Python code of the protos
	$(BIN)/python protos/generate.py

format: setup ## Format the code and mend what ruff can
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

lint: setup lint-protos ## Check style, import rules and protos
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/lint-imports --no-cache

lint-protos: setup
	@command -v npx >/dev/null || { echo "buf comes through npx: install Node.js 18 or newer" \
		"(apt-get install nodejs npm, or https://nodejs.org)"; exit 1; }
	$(BIN)/python protos/generate.py --image .venv/shopintent.binpb
	npx --yes @bufbuild/buf@1.75.0 lint .venv/shopintent.binpb --config protos/buf.yaml

types: setup ## Check types, strictly
	$(BIN)/mypy

test: setup ## Run every test; ARGS='-k name' chooses
	$(BIN)/pytest $(ARGS)

demo: setup ## Simulate a shop, train, serve, play a visit; or LOG=<path> MAPPING=<toml or name>
	@$(BIN)/python -m deploy.demo play $(if $(LOG),--log '$(LOG)' --mapping '$(MAPPING)')

serve: setup ## Keep the server of the last demo running
	@$(BIN)/python -m deploy.demo serve

bench: setup ## Measure serving; ARGS='--quick' for a first look, ARGS='--help' teaches
	@$(BIN)/python -m deploy.bench $(ARGS)

bench-events: setup ## Measure tracking, and how soon answers know; ARGS='--help' teaches
	@$(BIN)/python -m deploy.bench.events $(ARGS)

bench-peers: setup ## Compare with FastAPI, LitServe, Ray Serve and BentoML; ARGS='--help' teaches
	@$(BIN)/python -m deploy.bench.peers $(ARGS)

tools: ## Install redis-server and h2load with apt-get, which some tests and benches drive
	@sh deploy/tools.sh

peers: setup ## Make .peers with RecTools and RecBole, which `benchmark` compares with
	@$(BIN)/python -m deploy.peers

lock: setup ## Pin what pip resolves today in requirements.lock
	$(BIN)/python deploy/lock.py

clean: ## Remove everything that make made
	rm -rf .venv .triton .peers .demo build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
