# All commands of this project. `make demo` and `make test` set up what they need.
PYTHON ?= python3
VENV ?= .venv
PORT ?= 8000
SECONDS ?= 1800
# torch: `auto` installs its CPU build if the package index has one, else none (the tests that need
# torch are then skipped, with a message); `1` installs the index's default build, gigabytes of CUDA
# on Linux; `0` installs none.
TRAIN ?= auto
TORCH = 2.13.0

# The folders of tests marked `alone`: to collect the others takes longer (tests/conftest.py).
ALONE = tests/app tests/chaos

BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip install -qq --disable-pip-version-check

.PHONY: help demo serve test test-slow compose-test chaos chaos-quick soak fuzz lint format bench docs pictures setup lock clean

help:            ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

demo: $(VENV)/.serve  ## serve the map of Demo County (PORT=8123 sets the port)
	$(BIN)/landcover demo --port $(PORT)

serve: $(VENV)/.serve  ## serve your own NAIP files: make serve IMAGERY=/path/to/folder
	$(BIN)/landcover serve --imagery "$(IMAGERY)" --port $(PORT)

test: $(VENV)/.test  ## run all tests: two at a time, then those that must run alone
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not alone and not slow"
	$(BIN)/python -m pytest $(ALONE) -m "alone and not slow"

test-slow: $(VENV)/.test  ## run the slow tests that `make test` leaves out; CI runs both
	$(BIN)/python -m pytest -m slow

compose-test: $(VENV)/.test  ## test the containers with podman, as root (takes minutes)
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m tests.containers

chaos: $(VENV)/.test  ## play every fault against the server (9 minutes); writes docs/reliability.md
	$(BIN)/python -m tests.chaos

chaos-quick: $(VENV)/.test  ## play the faults of every CI run (a minute)
	$(BIN)/python -m tests.chaos --quick

soak: $(VENV)/.test  ## mixed load and faults for SECONDS (1800): memory, descriptors, wrong pixels
	$(BIN)/python -m tests.chaos.soak $(SECONDS)

fuzz: $(VENV)/.test  ## throw more than 12,000 generated inputs; writes docs/reliability.md
	$(BIN)/python -m tests.fuzz

lint: $(VENV)/.test  ## run ruff, mypy and import-linter
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.test  ## fix what ruff can fix
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(VENV)/.test  ## run all benchmarks; writes docs/benchmarks.md
	$(BIN)/python -m tests.benchmarks

pictures: $(VENV)/.test  ## take the pictures of the docs (needs Chromium); writes docs/images
	$(BIN)/python -m tests.browser.pictures

docs: $(VENV)/.test  ## write docs/accuracy.md and the README's accuracy from docs/measured
	$(BIN)/python -m training accuracy --readme README.md

setup: $(VENV)/.test  ## install everything for development

lock: $(VENV)/.test  ## update the pinned dependencies
	$(PIP) uv
	$(BIN)/python -m uv pip compile --universal --generate-hashes --no-header --python-version 3.11 -q --upgrade --extra openvino -o docker/requirements.txt pyproject.toml
	$(BIN)/python -m uv pip compile --universal --generate-hashes --no-header --python-version 3.11 -q --upgrade --extra dev -o .ci/requirements.txt pyproject.toml

clean:           ## remove generated files
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
