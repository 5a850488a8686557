# visionxl: `make` alone lists the targets.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check
export MPLBACKEND ?= Agg
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all coverage mutants outputs lint lab docs dist bench train clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' Makefile | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(VENV)/.installed: setup.py settings.ini constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -q -e '.[dev]'
	@touch $@

install: $(VENV)/.installed ## make the environment in .venv and install visionxl in it

demo: install ## degrade a bundled real clip, restore it, and show the result
	$(BIN)/visionxl demo

lint: install ## ruff and mypy
	$(BIN)/python tools/check.py lint types

test: install ## everything that must hold: modules, lint, types, site, notebooks, pytest; time by part
	$(BIN)/python tools/check.py

test-all: install ## also what is too slow for `test`, pip-audit and licences
	$(BIN)/python tools/check.py --slow

coverage: export COVERAGE_FILE := $(CURDIR)/.coverage
coverage: export VISIONXL_SOURCE := $(CURDIR)/visionxl
coverage: install ## lines of the package that tests and notebooks reach; pages in htmlcov
	$(BIN)/coverage erase
	$(BIN)/coverage run tools/test_nbs.py 2 --lines & \
	$(BIN)/coverage run -m pytest -n 2 --dist loadfile || echo "a test failed: the lines still count"; wait
	$(BIN)/coverage combine -q
	$(BIN)/coverage html -q
	$(BIN)/coverage report

mutants: install ## change a sample of lines and see whether the tests notice (about an hour)
	$(PIP) install -q cosmic-ray
	$(BIN)/python tools/mutants.py --again

outputs: install ## run the notebooks whose code has changed since their outputs
	$(BIN)/python tools/run_nbs.py

lab: install ## JupyterLab on the notebooks
	$(BIN)/jupyter lab nbs/index.ipynb

docs: install ## build the site into _docs
	$(BIN)/python tools/docs.py

dist: install ## build wheel and sdist into dist, and check their form
	rm -rf dist
	$(BIN)/python -m build -q
	$(BIN)/python -m twine check --strict dist/*

bench: install ## the short benchmarks (under 15 minutes)
	for b in operators solver quality; do $(BIN)/python bench/$$b.py || exit 1; done

train: install ## retrain the bundled prior (resumes where it stopped)
	$(BIN)/python -m visionxl.training

clean: ## remove what was built, but not the environment
	rm -rf _docs _proc build dist *.egg-info htmlcov .coverage* mutants .pytest_cache .ruff_cache .mypy_cache
