# make demo: a first look. make test: lint, types, tests. make soak: every test, with every extra. make docs: the pages
# made from the code. make lowest: the tests with the lowest versions that pyproject.toml allows, in .venv-lowest (old
# versions warn of what came after them, so that warnings are no errors there). The others make .venv first if it is missing.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export PYTHONDONTWRITEBYTECODE :=  # what is compiled once need not be by each of the many processes that tests start

.PHONY: demo test lint types soak docs lowest clean

demo: $(STAMP)
	$(BIN)/ceph run --plugin weighted-loss --plugin hard-mining

test: lint types
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not slow"

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

soak: $(STAMP)
	$(BIN)/python -m pip install --quiet -e ".[dev,sinks]"
	$(BIN)/python -m pytest -n auto --dist worksteal -m "slow or not slow"

lowest:
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet uv
	.venv-lowest/bin/uv pip install --quiet --python .venv-lowest/bin/python --resolution lowest-direct -e ".[dev]"
	.venv-lowest/bin/python -m pytest -n auto --dist worksteal -W default -m "not slow"

docs: $(STAMP)
	$(BIN)/python benchmarks/docs_from_code.py

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=24"
	$(BIN)/python -m pip install --quiet -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) .venv-lowest
