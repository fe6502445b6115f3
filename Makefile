# Everything a newcomer needs: make demo, make test, make check. All of it works from a fresh clone.
PYTHON ?= python3
INSTALLER ?= uv
VENV := .venv
BIN := $(VENV)/bin
# One more than there are cores: most tests wait for a server.
WORKERS ?= $(shell expr $$(nproc) + 1)
READY := $(VENV)/ready-$(shell sha256sum < constraints.txt | cut -c1-16)

.PHONY: help env demo test thorough bench check format docs lock clean
help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

env: $(READY)  ## the environment in .venv, pinned with hashes (INSTALLER=pip works too)

# uv installs in seconds what pip installs in minutes; both read the same hashes. Bytecode is compiled here because
# Prefect's server otherwise spends its first start-up on it.
$(READY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "drillbook needs Python 3.11 or newer: make PYTHON=python3.12"; exit 1; }
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
ifeq ($(INSTALLER),uv)
	awk '/^uv==/ {p=1} p {print} p && !/\\$$/ {exit}' constraints.txt > $(VENV)/uv.txt
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r $(VENV)/uv.txt
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes --compile-bytecode constraints.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
else
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r constraints.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	$(BIN)/python -m pip check
endif
	@touch $@

demo: env  ## rehearse the loss of a live database and leave a report
	@$(BIN)/drillbook demo

test: env  ## the suite, as CI runs it
	$(BIN)/python -m pytest --numprocesses=$(WORKERS) --dist=worksteal

thorough: env  ## the suite, and what takes long besides
	DRILLBOOK_THOROUGH=1 $(BIN)/python -m pytest --numprocesses=$(WORKERS) --dist=worksteal

bench: env  ## what proving and recovery cost, against bare tools and peers; writes docs/benchmarks*.md (BENCH=--help)
	PYTHONPATH=tests $(BIN)/python -m bench $(BENCH)

check: env  ## lint, types, import contracts, generated docs
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/generate.py --check

format: env  ## mend what the formatter and linter can mend by themselves
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: env  ## write the generated docs anew
	$(BIN)/python docs/generate.py

lock: env  ## choose versions anew and pin them with hashes
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
		--no-header --no-annotate --upgrade --extra dev pyproject.toml --output-file constraints.txt

clean:  ## remove the environment and caches (drills and evidence stay)
	rm -rf $(VENV) .mypy_cache .ruff_cache
