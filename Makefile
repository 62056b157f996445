# `make help` lists what there is. Everything is made below this folder: .venv, node_modules, .local.
PYTHON ?= python3
PORT ?= 7071
DATA_DIR ?= .local
VENV := .venv
DEPLOYED := .venv-deployed
INFRA := .venv-infra
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK = 1
export DATA_DIR PORT TELEMETRY

.DEFAULT_GOAL := help
.PHONY: help run test browser check fix connector workbook bench package audit infra pins clean setup

help: ## What can be done here
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: setup ## Start the license server with demo data on http://127.0.0.1:7071 (PORT, DATA_DIR, TELEMETRY=local), until Ctrl-C
	@exec $(BIN)/python -m devhost run

test: setup $(DEPLOYED)/.installed check ## All tests, lint, types, import rules
	@for tool in curl git openssl; do command -v $$tool > /dev/null || \
		{ echo "$$tool is needed: tests do with it what the documents say. Install it with your package manager." >&2; exit 1; }; done
	@$(BIN)/pytest --numprocesses 4 --dist loadfile
	@command -v mcs > /dev/null || echo 'Not run: the tests of the client in C#, which need Mono: on Debian apt-get install --no-install-recommends mono-mcs libmono-system-net-http4.0-cil'

browser: setup ## The pages in headless Chromium: by axe, by keyboard, and as pictures
	@$(BIN)/python -m tests.browser

check: setup ## Lint, types, import rules, the connector's definition
	@$(BIN)/ruff check --quiet . && $(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-logo > $(VENV)/lint-imports.log || { cat $(VENV)/lint-imports.log; exit 1; }
	@$(BIN)/python -m connector --check

fix: setup ## Mend what lint can mend, and format
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

connector: setup ## Write the definition of the Power Platform connector, from what the service offers
	@$(BIN)/python -m connector

workbook: setup ## Write the workbook of the telemetry, from its queries
	@$(BIN)/python -m infra.workbooks

bench: setup ## Measure speed, reads and memory, next to a plain FastAPI program (ROUNDS=5, DURATION=4 seconds a run)
	@$(BIN)/python -m bench $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(DURATION),--duration $(DURATION))

package: setup ## Write the zip that is deployed, and its SBOM, to dist/
	@$(BIN)/python -m release.package

audit: setup ## Whether a pinned package is known to be vulnerable
	@$(BIN)/python -m release.audit

infra: $(INFRA)/.installed ## checkov on the template for Azure; schema, lint and zizmor on the pipelines
	@$(BIN)/python -m tests.infra

# pip checks every hash as soon as one is there, here and where Azure builds.
pins: UPGRADE ?= --upgrade
pins: COMPILE := $(BIN)/uv pip compile --quiet --python-version 3.13 --no-header --generate-hashes
pins: setup ## Write the pins of everything again, newest versions; with UPGRADE= those that are pinned, and what is new
	@$(COMPILE) $(UPGRADE) pyproject.toml --output-file requirements.txt
	@$(COMPILE) $(UPGRADE) --group dev --constraint requirements.txt pyproject.toml --output-file requirements-dev.txt
	@printf 'checkov\ncheck-jsonschema\nyamllint\nzizmor\n' | $(COMPILE) $(UPGRADE) - --output-file infra/requirements-checks.txt

clean: ## Take away what was made here, but for the data in .local
	rm -rf $(VENV) $(DEPLOYED) $(INFRA) node_modules .mypy_cache .pytest_cache .ruff_cache .hypothesis dist

setup: $(VENV)/.installed node_modules/.installed

$(VENV)/.installed: requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 13))' 2>/dev/null || \
		{ echo 'Python 3.13 is needed, and "$(PYTHON)" is not it: install it (uv python install 3.13, or pyenv install 3.13), or name it: make PYTHON=/path/to/python3.13 ...' >&2; exit 1; }
	@echo 'Installing Python packages into $(VENV) ...'
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/pip install --quiet --require-hashes --requirement requirements-dev.txt
	@touch $@

# Just what Azure installs: tests index the functions and serve in it.
$(DEPLOYED)/.installed: requirements.txt | $(VENV)/.installed
	@echo 'Installing what is deployed, alone, into $(DEPLOYED) ...'
	@$(BIN)/python -m venv --clear $(DEPLOYED)
	@$(DEPLOYED)/bin/pip install --quiet --no-deps --require-hashes --requirement requirements.txt
	@touch $@

# checkov pins what the others need in newer versions.
$(INFRA)/.installed: infra/requirements-checks.txt | $(VENV)/.installed
	@echo 'Installing what checks the template for Azure into $(INFRA) ...'
	@$(BIN)/python -m venv --clear $(INFRA)
	@$(INFRA)/bin/pip install --quiet --require-hashes --requirement infra/requirements-checks.txt
	@touch $@

node_modules/.installed: package-lock.json
	@node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' 2>/dev/null || \
		{ echo 'Node.js 20 or newer is needed for the Table Storage emulator: install it from https://nodejs.org or with your package manager.' >&2; exit 1; }
	@command -v npm > /dev/null || { echo 'npm is needed to install the Table Storage emulator: it comes with Node.js from https://nodejs.org; your package manager may have it apart.' >&2; exit 1; }
	@echo 'Installing the Table Storage emulator into node_modules ...'
	@npm ci --silent --no-audit --no-fund
	@touch $@
