# What a developer runs; .ci/run runs the same. `make` alone lists it.
BIN = .venv/bin

# The README's own command, as it stands there.
TESTS := $(shell sed -n '/<!-- command: tests -->/,/^```$$/p' README.md | sed '1,2d;$$d')

.PHONY: help install install-all hooks check test coverage lint format types bench build

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.* ## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

install: ## make .venv, with what the tests and the checks need
	python3 -m venv .venv
	$(BIN)/pip install -q -e '.[dev]'

install-all: install ## also what tests do less without: compiled servers, rivals, Atheris, schemas, browsers
	$(BIN)/pip install -q -e '.[servers,bench,fuzz,deploy,browsers]'
	mkdir -p .venv/axe && cp tests/browser/package*.json .venv/axe
	cd .venv/axe && if command -v npm >/dev/null; then npm ci --silent --no-audit --no-fund; fi

hooks: install ## check each commit before it is made
	$(BIN)/pre-commit install

check: lint types test ## all that a change has to pass

test: ## run the tests by the README's command; PYTEST_ADDOPTS says more
	$(TESTS)

coverage: ## run the tests, and show the lines that none of them reaches
	PYTEST_ADDOPTS="$$PYTEST_ADDOPTS --cov --cov-report=" $(MAKE) test
	$(BIN)/coverage report

lint: ## check style and form
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pre-commit validate-config

format: ## put the code into form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: ## check types
	$(BIN)/mypy

bench: ## measure what docs/performance.md shows
	$(BIN)/python -m tests.bench

build: ## make the wheel in dist/
	$(BIN)/pip wheel -q --no-deps --wheel-dir dist .
