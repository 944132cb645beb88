# make demo: a first look. make test: lint, types, tests. make soak: every test, with every extra. make docs: the pages made
# from the code, and the site of all pages in build/site. make gallery: the pictures of docs/gallery.md, by its commands.
# make lowest: the tests with the lowest versions that pyproject.toml allows, in .venv-lowest (old versions warn of what came
# after them, so that warnings are no errors there). make wheel-test: builds wheel and sdist into dist, and tries them in an
# environment of their own, away from this folder. make constraints: the newest versions that go together, for
# `pip install -c constraints.txt`. The others make .venv first if it is missing.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PACKAGE := $(VENV)/.package
STAMP := $(VENV)/.installed
# What installs into $(VENV), and into the environment of wheel-test: `uv pip install --python .venv` is faster.
INSTALL ?= $(BIN)/python -m pip install --quiet
TRY ?= build/wheel/bin/python -m pip install --quiet
export PYTHONDONTWRITEBYTECODE :=  # what is compiled once need not be by each of the many processes that tests start

.PHONY: demo test lint types soak docs gallery lowest wheel-test constraints clean

demo: $(PACKAGE)
	$(BIN)/ceph run --plugin weighted-loss --plugin hard-mining

test: lint types
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not slow"

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

soak: $(STAMP)
	$(INSTALL) -e ".[dev,sinks]"
	$(BIN)/python -m pytest -n auto --dist worksteal -m "slow or not slow" --hypothesis-profile soak

lowest:
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet uv
	.venv-lowest/bin/uv pip install --quiet --python .venv-lowest/bin/python --resolution lowest-direct -e ".[dev]"
	.venv-lowest/bin/python -m pytest -n auto --dist worksteal -W default -m "not slow"

docs: $(BIN)/zensical
	$(BIN)/python benchmarks/docs_from_code.py --gather build/pages
	$(BIN)/zensical build --clean --strict

$(BIN)/zensical: $(STAMP)
	$(INSTALL) -e ".[docs]"
	touch $@

gallery: $(STAMP)
	$(BIN)/python benchmarks/docs_from_code.py --gallery

wheel-test:
	rm -rf dist build/wheel build/sdist
	$(PYTHON) -m venv build/wheel
	build/wheel/bin/python -m pip install --quiet build
	build/wheel/bin/python -m build --outdir dist .
	mkdir -p build/sdist && tar -xzf dist/*.tar.gz -C build/sdist --strip-components 1
	$(TRY) dist/*.whl pytest hypothesis
	sh .github/try-wheel.sh build/wheel/bin build/sdist

constraints: $(STAMP)
	$(INSTALL) uv
	$(BIN)/uv pip compile --quiet --universal --upgrade --all-extras --python-version 3.11 --no-header --no-annotate \
	  --output-file constraints.txt pyproject.toml

$(PACKAGE): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=24"
	$(INSTALL) -e .
	touch $@

$(STAMP): $(PACKAGE)
	$(INSTALL) -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) .venv-lowest build dist
