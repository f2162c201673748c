# `make demo` and `make test` set up what they need in .venv and work offline after the first time.

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
BIN := .venv/bin
READY := .venv/.ready
WORKERS ?= 2

# GitHub's own descriptions and payload examples, used by the tests alone.
OCTOKIT := openapi@23.0.2 openapi-webhooks@12.1.0 webhooks-examples@7.6.1 webhooks-schemas@7.6.1
OCTOKIT_READY := .cache/octokit/.ready

# Published packages of real size that the line is played on.
SDISTS := requests==2.32.3 pytest==8.3.4
SDISTS_READY := .cache/sdists/.ready

.PHONY: help setup demo test lint types contracts tests quick bench clean

help:
	@echo "make demo    a comment becomes a pull request, on a simulated GitHub"
	@echo "make test    lint, types, import contracts and all tests"
	@echo "make quick   the tests that take less than ten seconds each"
	@echo "make bench   the benchmarks of tests/bench"
	@echo "make clean   forget .venv and the caches"

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@[ -n "$(PYTHON)" ] || { echo "MagiCode needs Python 3.11 or newer: none was found on the PATH."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "MagiCode needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V)."; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "MagiCode needs Python's venv module (on Debian: the package python3-venv)."; exit 1; }
	@command -v git >/dev/null || { echo "MagiCode needs git: it was not found on the PATH."; exit 1; }
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv .venv
	@echo "Installing into .venv (the first time takes a few minutes) ..." >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch==2.13.0
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

$(OCTOKIT_READY): Makefile
	@command -v npm >/dev/null || { echo "The tests check against GitHub's own schemas, which npm fetches: npm was not found on the PATH."; exit 1; }
	@set -e; for package in $(OCTOKIT); do \
	  name=$${package%@*}; rm -rf .cache/octokit/$$name; mkdir -p .cache/octokit/$$name; \
	  file=$$(cd .cache/octokit && npm pack --silent @octokit/$$package); \
	  tar -xzf .cache/octokit/$$file -C .cache/octokit/$$name --strip-components=1; rm .cache/octokit/$$file; \
	done
	@touch $@

$(SDISTS_READY): Makefile | $(READY)
	@mkdir -p .cache/sdists
	@$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps --no-binary :all: --dest .cache/sdists $(SDISTS)
	@touch $@

demo: $(READY)
	@$(BIN)/magicode demo

test: lint types contracts tests

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

contracts: $(READY)
	$(BIN)/lint-imports

tests: $(READY) $(OCTOKIT_READY) $(SDISTS_READY)
	$(BIN)/pytest -n $(WORKERS) --dist worksteal

quick: $(READY) $(OCTOKIT_READY) $(SDISTS_READY)
	$(BIN)/pytest -n $(WORKERS) --dist worksteal -m "not long"

bench: $(READY)
	$(BIN)/python tests/bench/line.py
	$(BIN)/python tests/bench/grammar.py
	$(BIN)/python tests/bench/indexing.py

clean:
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build *.egg-info
