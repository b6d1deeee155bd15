# `make demo` and `make test` set up everything they need: a .venv with the versions of requirements.txt.
PYTHON ?= $(shell python3.11 -c 'print("python3.11")' 2>/dev/null || echo python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# yes: torch, whatever pip has to download for it; no: neither torch nor geoopt. What `make setup` was told holds for the rest.
TORCH ?= $(shell cat $(READY) 2>/dev/null)
DATA ?=
OUT ?= out
ONLY ?=
export PYTORCH_JIT = 0
export JAX_PLATFORMS ?= cpu
export TF_CPP_MIN_LOG_LEVEL = 3

define LARGE_TORCH
The processor-only build of torch 2.13.0 exists for Python 3.11 alone; for any
other Python pip takes the build with CUDA, which is six gigabytes. Nothing has been downloaded so far. Choose one of these:

  make setup PYTHON=python3.11   set up with Python 3.11
  make setup TORCH=no            set up without torch and geoopt; make test then skips the tests that need them
  make setup TORCH=yes           download the six gigabytes
endef
export LARGE_TORCH

.PHONY: help setup demo test test-slow test-machines lint bench accuracy trajectories mutants fuzz clean

help:
	@echo "make demo           trains in torch, converts, verifies and goes on in JAX; writes to out/"
	@echo "                    (DATA=FOLDER/NAME.npz takes another graph, OUT=FOLDER another folder)"
	@echo "make test           runs the whole suite, with lint and types"
	@echo "make test-slow      runs the cases that make test leaves out; each has a similar case in make test"
	@echo "make test-machines  runs the suite as other machines would, for hours; writes to out/machines/"
	@echo "                    (ONLY=\"isa files\" runs some parts of it: seeds home lang read-only spaces shared order"
	@echo "                    threads worker isa aten files python)"
	@echo "make setup          sets up the .venv; the other commands do so where it is missing"
	@echo "                    (PYTHON=python3.11 names the Python, TORCH=no leaves out torch and geoopt)"
	@echo "make bench          measures torch and JAX side by side"
	@echo "make accuracy       compares geoopt and port_jax with 50 digits; writes tables and plots to accuracy/"
	@echo "make trajectories   takes 1000 steps of every optimizer, option and manifold beside geoopt"
	@echo "make mutants        plants known errors one by one and shows which test catches each"
	@echo "make fuzz           reads 10,000 damaged checkpoints"
	@echo "make clean          removes .venv, out/ and build/"

# torch first: asked for by a dependency it would come as the build with CUDA.
$(READY): requirements.txt pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "hyperport needs Python 3.11 or newer; name one: make setup PYTHON=python3.11" >&2; exit 1; }
	@test "$(TORCH)" || "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
		{ echo "This is $$("$(PYTHON)" --version). $$LARGE_TORCH" >&2; exit 1; }
	"$(PYTHON)" -m venv $(VENV)
	$(if $(filter no,$(TORCH)),,$(PIP) torch==2.13.0)
	$(if $(filter no,$(TORCH)),grep -vE '^(torch|geoopt)==' requirements.txt | $(PIP) -r /dev/stdin,$(PIP) -r requirements.txt)
	$(PIP) --no-deps --editable .
	@echo "$(TORCH)" > $@

setup: $(READY)

# Without a cache, which a read-only tree has no room for. Without torch the types of what imports it cannot be checked.
lint: $(READY)
	$(BIN)/ruff check --no-cache .
	$(BIN)/ruff format --no-cache --check --quiet .
	$(if $(filter no,$(TORCH)),,$(BIN)/basedpyright)

test: lint
	$(BIN)/python -m pytest -n 2

test-slow: $(READY)
	$(BIN)/python -m pytest -n 2 -m slow

test-machines: $(READY)
	$(BIN)/python -m parity_tests.machines $(ONLY)

demo: $(READY)
	$(BIN)/python examples/migrate_hgat.py --out "$(OUT)" $(if $(DATA),--data "$(DATA)")

bench: $(READY)
	DATA="$(DATA)" $(BIN)/python -m benchmarks

accuracy: $(READY)
	$(BIN)/python -m parity_tests.oracle.accuracy

trajectories: $(READY)
	$(BIN)/python -m parity_tests.optim.trajectories

mutants: $(READY)
	$(BIN)/python -m parity_tests.mutants

fuzz: $(READY)
	$(BIN)/python -m parity_tests.weights.files.fuzz 10000

clean:
	rm -rf $(VENV) out build *.egg-info
