# The two commands of the README are `make run` and `make test`; the rest is for people who work on unibus.
# Needs Python >= 3.11 and make. Everything else comes from requirements.lock into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PACKAGES := tests/debian-packages.txt
HOST_PACKAGES := tests/debian-packages-hosts.txt

.DEFAULT_GOAL := help
.PHONY: help run test test-slow test-large test-faults test-deploy chaos check format demo demo-cluster bench bench-plots lock clean

help: ## show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "unibus needs python 3.11 or newer: make run PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

run: $(STAMP) ## the daemon in the foreground, on the embedded defaults
	@exec $(BIN)/unibus-membershipd

test: $(STAMP) ## all tests that take less than minutes
	@tests/install-packages $(PACKAGES)
	$(BIN)/python -m pytest -n 3 --dist worksteal

test-slow: $(STAMP) ## what shorter tests show too, once more and longer; minutes
	@tests/install-packages $(PACKAGES)
	$(BIN)/python -m pytest -n 2 --dist worksteal -m slow

test-large: $(STAMP) ## 2 GiB through a daemon held to 200 MB; a minute, 4 GiB of disk
	$(BIN)/python -m pytest -m large

test-faults: $(STAMP) ## nats-server ended and hindered again and again under load; minutes
	$(BIN)/python -m pytest -m faults

test-deploy: $(STAMP) ## installs on real user managers and hosts of the tests' own; needs root; minutes
	@tests/install-packages $(HOST_PACKAGES)
	$(BIN)/python -m pytest -m deploy

chaos: $(STAMP) ## a cluster broken in every way, in namespaces of its own; needs root; a quarter of an hour
	@tests/chaos/run

check: $(STAMP) ## types, lint, format and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP) ## rewrite what the formatter and the linter can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

demo: $(STAMP) ## the story: three people, one encrypted room, one removal
	@$(BIN)/unibus demo

demo-cluster: $(STAMP) ## the story of three nodes, one of which is killed
	@$(BIN)/unibus cluster demo

bench: $(STAMP) ## measured ratios, each beside its reference in one run; minutes
	@$(BIN)/python -m bench

bench-plots: $(STAMP) ## docs/plots: how costs grow with rooms, members, records; minutes
	@$(BIN)/python -m bench.plots docs/plots

lock: $(STAMP) ## write requirements.lock anew from pyproject.toml
	$(BIN)/python -m pip install --quiet pip-tools
	$(BIN)/pip-compile --quiet --strip-extras --generate-hashes --allow-unsafe --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
		--no-header --output-file requirements.lock --extra dev pyproject.toml

clean: ## remove the environment and the caches, never the data
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
