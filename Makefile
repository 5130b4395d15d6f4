# Every target makes its own environment in .venv; nothing has to be installed by hand.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# The CPU build of torch where it can be had (see tools/install-torch). For a GPU: make demo TORCH=torch
TORCH  ?=

.PHONY: demo test fuzz check docs format clean

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	tools/install-torch $(BIN)/python $(TORCH)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check --editable ".[dev]"
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps Resemblyzer==0.1.4
	touch $@

demo: $(VENV)/.installed            ## the main job on the toy corpus, in minutes
	$(BIN)/affetto demo runs/demo

test: $(VENV)/.installed-dev        ## all tests
	$(BIN)/pytest -n 2 --dist worksteal

fuzz: $(VENV)/.installed-dev        ## 10,000 damaged inputs of each kind; those of the server take longest
	AFFETTO_FUZZ=10000 $(BIN)/pytest -n 2 tests/fuzz

check: $(VENV)/.installed-dev       ## format, lint, types
	$(BIN)/ruff format --check src tests benchmarks examples
	$(BIN)/ruff check src tests benchmarks examples
	$(BIN)/mypy

docs: $(VENV)/.installed-dev        ## run every code block of README and docs
	$(BIN)/pytest tests/test_docs.py

format: $(VENV)/.installed-dev
	$(BIN)/ruff format src tests benchmarks examples
	$(BIN)/ruff check --fix src tests benchmarks examples

clean:
	rm -rf $(VENV) runs .pytest_cache .mypy_cache .ruff_cache
