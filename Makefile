# Each target sets up what it needs in .venv; a second call finds it there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# One thread a test worker: two workers with two threads each would fight over the cores.
WORKERS ?= auto

.PHONY: demo test check format bench clean help

help:
	@echo "make demo   set up, then phantom films -> train -> predict -> evaluate -> page (demo/page/report.html)"
	@echo "make test   set up, then the test suite"
	@echo "make check  set up, then lint, types and layering"

demo: $(VENV)/.run
	$(BIN)/cxrlocus demo --out demo

test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS)

check: $(VENV)/.dev
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/layering

format: $(VENV)/.dev
	$(BIN)/ruff check --fix src tests benchmarks
	$(BIN)/ruff format src tests benchmarks

bench: $(VENV)/.bench
	for one in loader explain step boxes phantom harvest infomask pools mining resolution depthwise layout; do $(BIN)/python benchmarks/$$one.py || exit 1; done

# Debian splits ensurepip from python3; without it the venv is filled by the pip that is there. Each step is marked done
# only when it is, so that a set-up that was broken off goes on.
$(VENV)/.pip:
	$(PYTHON) -m venv $(VENV) 2>/dev/null || $(PYTHON) -m venv --without-pip --clear $(VENV)
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m pip --python $(BIN)/python install --quiet pip
	@touch $@

$(VENV)/.run: pyproject.toml | $(VENV)/.pip
	$(BIN)/python -m pip install --quiet -e .
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/.pip
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	@touch $@ $(VENV)/.run

$(VENV)/.bench: pyproject.toml | $(VENV)/.pip
	$(BIN)/python -m pip install --quiet -e '.[bench]'
	@touch $@ $(VENV)/.run

clean:
	rm -rf $(VENV) demo build *.egg-info src/*.egg-info
