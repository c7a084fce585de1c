# make demo: set up and run the whole pipeline.  make test: lint and fast tests.  make test-all: the slow tier too.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
# Extra arguments for pip, for example an index with CPU-only builds of torch.
PIP_ARGS ?=
VENV ?= .venv
BIN := $(VENV)/bin
DONE := $(VENV)/.installed
.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow test-all lint docs

help:
	@head -1 Makefile | cut -c3-

install: $(DONE)

$(DONE): requirements.lock requirements-dev.lock pyproject.toml
	@echo "Installing the locked dependencies into $(VENV) (a few minutes the first time)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) --no-deps --editable .
	@touch $(DONE)

demo: install
	@$(BIN)/bonesoup run

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

test: lint
	$(BIN)/pytest

test-slow: install
	$(BIN)/pytest -m slow -x

test-all: lint
	$(BIN)/pytest -m "slow or not slow"

docs: install
	$(BIN)/python docs/generate.py
