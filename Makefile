# The front door. `make demo` and `make test` do all their own set-up.
PYTHON ?= python3
VENV ?= .venv
PORT ?= 8000
# torch: `auto` takes its CPU build where the package index offers one and does without otherwise
# (the tests that need it are then skipped, and say so); `1` takes whatever the index has, which
# for Linux is gigabytes of CUDA; `0` never.
TRAIN ?= auto
TORCH = 2.13.0

BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip install -qq --disable-pip-version-check

.PHONY: help demo serve test compose-test lint format bench docs setup clean

help:            ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

demo: $(VENV)/.serve  ## the map of Demo County, at a printed address (PORT=8123 chooses the port)
	$(BIN)/landcover demo --port $(PORT)

serve: $(VENV)/.serve  ## the map of your own NAIP files: make serve IMAGERY=/path/to/folder
	$(BIN)/landcover serve --imagery "$(IMAGERY)" --port $(PORT)

test: $(VENV)/.test  ## all tests: two at a time, then those that want the machine to themselves
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not alone"
	$(BIN)/python -m pytest -m alone

compose-test: $(VENV)/.test  ## the containers for real, with podman as root (minutes)
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m tests.containers

lint: $(VENV)/.test  ## ruff, format, mypy, import-linter
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.test  ## mend what a machine can mend
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(VENV)/.test  ## measure; writes docs/benchmarks.md
	$(BIN)/python -m tests.benchmarks

docs: $(VENV)/.test  ## docs/accuracy.md and the README's accuracy, from docs/measured
	$(BIN)/python -m training accuracy --readme README.md

setup: $(VENV)/.test  ## everything for development

lock:            ## pin the dependencies anew
	$(BIN)/python -m uv pip compile --universal --generate-hashes --no-header --python-version 3.11 -q --upgrade --extra s3 -o docker/requirements.txt pyproject.toml
	$(BIN)/python -m uv pip compile --universal --generate-hashes --no-header --python-version 3.11 -q --upgrade --extra dev -o .ci/requirements.txt pyproject.toml

clean:           ## remove what was made here
	rm -rf $(VENV) demo-county demo-city runs .pytest_cache .mypy_cache .ruff_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed: make PYTHON=python3.11 …"; exit 1; }
	@echo "Setting up $(VENV): about a minute, once."
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.serve: $(BIN)/python docker/requirements.txt pyproject.toml
	@$(PIP) --require-hashes -r docker/requirements.txt
	@$(PIP) --no-deps -e .
	@touch $@

$(VENV)/.test: $(VENV)/.serve .ci/requirements.txt
	@$(PIP) --require-hashes -r .ci/requirements.txt
ifeq ($(TRAIN),1)
	@$(PIP) torch==$(TORCH)
else ifeq ($(TRAIN),auto)
	@$(PIP) torch==$(TORCH)+cpu 2>/dev/null || \
	  echo "No CPU build of torch on this index: the training tests will be skipped (TRAIN=1 forces)."
endif
	@touch $@
