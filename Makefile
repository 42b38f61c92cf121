# One command each; `make demo` and `make test` install what they need first.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
DEMO   ?= demo
DEMO_SETTINGS ?=
PYTEST_WORKERS ?= auto

.PHONY: help install demo check test test-fast bench clean

help:
	@echo "make install    .venv with everything pinned in constraints.txt"
	@echo "make demo       train six models on phantoms and write the report (about 5 minutes on two cores)"
	@echo "make test       all tests, with coverage"
	@echo "make test-fast  all but the slow tests"
	@echo "make check      lint, types, import contracts, format"
	@echo "make bench      timings, into benchmarks/results/"

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev,oracle]'
	touch $@

demo: install
	BIN=$(BIN) bash scripts/demo.sh $(DEMO) $(DEMO_SETTINGS)

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: install
	rm -f .coverage .coverage.*
	$(BIN)/pytest --numprocesses $(PYTEST_WORKERS) -m "not slow" --cov --cov-report=
	$(BIN)/coverage report --fail-under=90

test-slow: install
	$(BIN)/pytest --numprocesses $(PYTEST_WORKERS) -m slow --durations 10

bench: install
	$(BIN)/python -m benchmarks.bench_feed
	$(BIN)/python -m benchmarks.bench_train
	$(BIN)/python -m benchmarks.bench_augment

clean:
	rm -rf $(VENV) $(DEMO) .mypy_cache .ruff_cache .pytest_cache .coverage .coverage.*
