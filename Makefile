# Two commands do it all on a fresh machine: `make demo` and `make test`.
PYTHON  ?= python3
VENV    ?= .venv
BIN     := $(VENV)/bin
DEMO    ?= demo
STAMP   := $(VENV)/.installed
# three at a time on two cores: many tests wait for other programs; neighbours share what their files set up
JOBS    ?= 3

.DEFAULT_GOAL := help
.PHONY: help demo test lint audit sbom smoke bench soak system-deps clean

help:            ## what can be made
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

$(STAMP): pyproject.toml constraints.txt
	@echo "Installing into $(VENV) (a minute or two; torch is large) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]' 2> $(VENV)/pip.log \
	  || { cat $(VENV)/pip.log; exit 1; }
	@touch $@

demo: $(STAMP)   ## the whole road on synthetic films, in minutes
	@$(BIN)/python -m carina demo --out $(DEMO)

test: $(STAMP)   ## all tests
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

lint: $(STAMP)   ## format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml src

audit: $(STAMP)  ## known vulnerabilities of what is pinned; asks a service outside, and fails where it cannot
	$(BIN)/pip-audit --requirement constraints.txt --no-deps --disable-pip --strict

sbom: $(STAMP)   ## what a release brings along, as CycloneDX: build/sbom.json
	mkdir -p build
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --output-file build/sbom.json $(BIN)/python

smoke: $(STAMP)  ## the wheel alone, without extras, in a clean environment: it scores, and brings no torch
	./.ci/smoke $(BIN)/python

bench: $(STAMP)  ## measure on real films: CARINA_REAL_DATA=FOLDER, offline also CARINA_BACKBONE=local-dir:PATH
	$(BIN)/python benchmarks/real.py
	$(BIN)/python benchmarks/scoring.py --films 200 --rounds 5 --write

soak: $(STAMP)   ## the promises of docs/promises.md under their full loads: hours; needs root for volumes of its own
	$(BIN)/python -m tests.reliability --full --write
	$(BIN)/python -m pytest --soak --write tests/security

system-deps:     ## programs that integration tests use (Debian; needs root)
	./.ci/system-deps

clean:           ## remove what the other targets made
	rm -rf $(VENV) $(DEMO) .pytest_cache .ruff_cache .mypy_cache .import_linter_cache build dist
