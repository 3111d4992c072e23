# make demo        set up what the demo needs, then do the main job
# make test        set up everything, then run the tests on the three backends in turn
# make test-fast   the same without the slow tests
# make lint        ruff and mypy
# make bench       the benchmarks: ratios, as CSV, under benchmarks/results
# make reproduce SLUG=multi-similarity   one paper's small reproduction
# make readme      write the README's tables anew from the catalogue and the results

PYTHON ?= python3
VENV ?= .venv
BACKENDS ?= jax torch tensorflow
BACKEND ?= jax
WORKERS ?= 2
BIN := $(VENV)/bin
SLUG ?= multi-similarity
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt

export TF_CPP_MIN_LOG_LEVEL ?= 3
export OMP_NUM_THREADS ?= 1

.PHONY: demo test test-fast lint bench reproduce readme clean
.DELETE_ON_ERROR:

demo: $(VENV)/.demo
	OMP_NUM_THREADS=2 $(BIN)/keras-zoo demo --backend $(BACKEND)

test: $(VENV)/.test
	@set -e; for backend in $(BACKENDS); do \
	  echo "== tests on $$backend"; \
	  KERAS_BACKEND=$$backend $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --durations=5; \
	done; echo "== all tests passed on: $(BACKENDS)"

test-fast: $(VENV)/.test
	@set -e; for backend in $(BACKENDS); do \
	  echo "== fast tests on $$backend"; \
	  KERAS_BACKEND=$$backend $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not gpu and not slow"; \
	done

lint: $(VENV)/.test
	@echo "== ruff"; $(BIN)/ruff check . && $(BIN)/ruff format --check .
	@echo "== mypy"; $(BIN)/mypy

bench: $(VENV)/.test
	@echo "== installing what is compared with"; $(INSTALL) -e ".[bench]"
	@set -e; for backend in $(BACKENDS); do for file in benchmarks/[a-z]*.py; do \
	  echo "== $$file on $$backend"; KERAS_BACKEND=$$backend OMP_NUM_THREADS=2 $(BIN)/python $$file; \
	done; done

reproduce: $(VENV)/.test
	KERAS_BACKEND=$(BACKEND) OMP_NUM_THREADS=2 $(BIN)/python examples/$(subst -,_,$(SLUG)).py

readme: $(VENV)/.test
	KERAS_BACKEND=jax $(BIN)/python -m tests.readme

clean:
	rm -rf $(VENV) demo_output

$(VENV)/bin/python:
	@echo "== making a virtual environment in $(VENV)"
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "== installing what the demo needs (some minutes the first time)"
	$(INSTALL) -e ".[demo,jax]"
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "== installing three frameworks and the test tools (some minutes the first time)"
	$(INSTALL) -e ".[models,tensorflow,torch,jax,dev]"
	@touch $@
