# visionxl: `make` alone lists the targets.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check
export MPLBACKEND ?= Agg
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all lint lab docs bench train clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' Makefile | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(VENV)/.installed: setup.py settings.ini constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -q -e '.[dev]'
	@touch $@

install: $(VENV)/.installed ## make the environment in .venv and install visionxl in it

demo: install ## degrade a bundled real clip, restore it, and show the result
	$(BIN)/visionxl demo

lint: install ## ruff
	$(BIN)/ruff check .

test: install ## everything that must hold: notebooks in step, notebook tests, pytest, ruff, docs
	$(BIN)/python tools/check_export.py
	$(BIN)/ruff check .
	OMP_NUM_THREADS=1 $(BIN)/nbdev_test --n_workers 2 --timing --pause 0.2
	$(BIN)/python tools/docs.py --check
	$(BIN)/pytest --durations=12

test-all: install ## also what is too slow for `test`
	$(BIN)/python tools/check_export.py
	OMP_NUM_THREADS=1 $(BIN)/nbdev_test --n_workers 2 --timing --flags slow --pause 0.2
	$(BIN)/pytest -m ''

lab: install ## JupyterLab on the notebooks
	$(BIN)/jupyter lab nbs/index.ipynb

docs: install ## build the site into _docs
	$(BIN)/python tools/docs.py

bench: install ## the short benchmarks (under 15 minutes)
	for b in operators solver quality; do $(BIN)/python bench/$$b.py || exit 1; done

train: install ## retrain the bundled prior (resumes where it stopped)
	$(BIN)/python -m visionxl.training

clean: ## remove what was built, but not the environment
	rm -rf _docs _proc build dist *.egg-info .pytest_cache .ruff_cache
