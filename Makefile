# make demo: set up and run the whole pipeline.  make chat: the same on a real chat model.  make test: lint and fast tests.  make test-all: the slow tier too.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
# Extra arguments for pip, for example an index with CPU-only builds of torch.
PIP_ARGS ?=
VENV ?= .venv
OWNER ?= 1000:1000
# Processes of the fast tests; those of a file stay together.
WORKERS ?= 2
BIN := $(VENV)/bin
# requirements.lock alone is what runs; the other adds what lint and the tests need.
LOCK ?= requirements-dev.lock
DEPENDENCIES := $(VENV)/.dependencies
DONE := $(VENV)/.installed
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS)
# The servers and the worker start each other's tools by name.
WITH_TOOLS := PATH="$(abspath $(BIN)):$$PATH"
.DEFAULT_GOAL := help
.PHONY: help install dependencies demo chat gpu bench test test-slow test-all lint docs graph mlflow prefect worker deploy system image

help:
	@head -1 Makefile | cut -c3-

install: $(DONE)

dependencies: $(DEPENDENCIES)

$(DEPENDENCIES): requirements.lock $(LOCK)
	@echo "Installing the locked dependencies into $(VENV) (a few minutes the first time)"
	$(PYTHON) -m venv $(VENV)
	$(PIP) -r $(LOCK)
	@touch $@

$(DONE): $(DEPENDENCIES) pyproject.toml
	$(PIP) --no-deps --editable .
	@touch $@

demo: install
	@$(BIN)/bonesoup run

# On a machine with a GPU: convert the base of the profile smollm2, then check and measure (bench/gpu.py).
gpu: install
	@$(BIN)/bonesoup profile smollm2
	@$(BIN)/bonesoup run base
	@$(BIN)/python bench/gpu.py --base out/base

# What docs/speed.md reports of training, the head, a request and a sweep; a missed bound does not stop the others.
bench: install
	@status=0; for part in train head chat; do $(BIN)/python bench/$$part.py || status=1; done; exit $$status

# A real chat model instead of the embedded task; writes its profile into params.yaml.
chat: install
	@$(BIN)/bonesoup profile smollm2
	@$(BIN)/bonesoup run

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

test: lint
	$(BIN)/pytest -n $(WORKERS) --dist loadgroup

test-slow: install
	$(BIN)/pytest -m slow -x

test-all: lint
	$(BIN)/pytest -m "slow or not slow"

# The code dependencies in dvc.yaml, from the imports of each stage.
graph: install
	$(BIN)/python -m bonesoup.workspace.graph

docs: install
	$(BIN)/python docs/generate.py

mlflow: install
	$(WITH_TOOLS) mlflow/server.sh

prefect: install
	$(WITH_TOOLS) flows/server.sh

worker: install
	$(WITH_TOOLS) flows/worker.sh

deploy: install
	$(WITH_TOOLS) flows/deploy.sh

# What Debian's slim image of Python lacks. As root.
system:
	apt-get update -qq
	apt-get install -y -qq --no-install-recommends git
	rm -rf /var/lib/apt/lists/*

# The rest of the image, as root: DVC without .git, and a folder that the image's user may write.
image:
	$(WITH_TOOLS) dvc config --local core.no_scm true
	chown -R $(OWNER) .
