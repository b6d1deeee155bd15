# `make demo` and `make test` set up everything they need: a .venv with the versions of requirements.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DATA ?=
export PYTORCH_JIT = 0
export JAX_PLATFORMS ?= cpu
export TF_CPP_MIN_LOG_LEVEL = 3

.PHONY: help setup demo test test-slow lint bench accuracy trajectories mutants fuzz clean

help:
	@echo "make demo      train in torch, convert, verify, go on in JAX   (DATA=FOLDER/NAME.npz for another graph)"
	@echo "make test      the whole suite, with lint and types"
	@echo "make test-slow  the cases that it leaves out, for each of which a like one is in it"
	@echo "make bench     torch and JAX side by side"
	@echo "make accuracy  errors of geoopt and port_jax against 50 digits, as tables and plots in accuracy/"
	@echo "make trajectories  1000 steps of every optimizer, option and manifold beside geoopt"
	@echo "make mutants   plants known errors one by one and shows which test catches each"
	@echo "make fuzz      10,000 damaged checkpoints"

# torch first: asked for by a dependency it would come as the build with CUDA.
$(READY): requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

setup: $(READY)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/basedpyright

test: lint
	$(BIN)/python -m pytest -n 2

test-slow: $(READY)
	$(BIN)/python -m pytest -n 2 -m slow

demo: $(READY)
	$(BIN)/python examples/migrate_hgat.py $(if $(DATA),--data $(DATA))

bench: $(READY)
	DATA="$(DATA)" $(BIN)/python -m benchmarks

accuracy: $(READY)
	$(BIN)/python -m parity_tests.oracle.accuracy

trajectories: $(READY)
	$(BIN)/python -m parity_tests.optim.trajectories

mutants: $(READY)
	$(BIN)/python -m parity_tests.mutants

fuzz: $(READY)
	$(BIN)/python -m parity_tests.weights.fuzz 10000

clean:
	rm -rf $(VENV) out build *.egg-info
