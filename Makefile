# Every command except help and clean sets up the environment that it needs: a .venv with the versions in requirements.txt.
PYTHON ?= $(shell python3.11 -c 'print("python3.11")' 2>/dev/null || echo python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# yes installs torch even if pip has to download the build with CUDA; no leaves out torch and geoopt. Later commands use the value of
# `make setup`.
TORCH ?= $(shell cat $(READY) 2>/dev/null)
DATA ?=
OUT ?= out
ONLY ?=
CASES ?=
KILLS ?=
CASE ?=
export PYTORCH_JIT = 0
export JAX_PLATFORMS ?= cpu
export TF_CPP_MIN_LOG_LEVEL = 3

define LARGE_TORCH
The build of torch 2.13.0 for processors alone is available for Python 3.11 only. For any other
version of Python, pip downloads the build with CUDA, which is six gigabytes. Nothing has been downloaded yet. Choose one of these commands:

  make setup PYTHON=python3.11   set up with Python 3.11
  make setup TORCH=no            set up without torch and geoopt; make test then skips the tests that need them
  make setup TORCH=yes           download the build with CUDA
endef
export LARGE_TORCH

.PHONY: help setup demo test test-slow test-machines lint parity bench scale accuracy trajectories mutants fuzz docs clean

help:
	@echo "make demo           trains in torch, converts, verifies, and continues in torch and JAX; writes to out/"
	@echo "                    (DATA=FOLDER/NAME.npz uses another graph, OUT=FOLDER writes to another folder)"
	@echo "make test           checks style and the types of the packages, and runs the test suite"
	@echo "make test-slow      checks all types, and runs cases that make test leaves out; each is similar to a case in make test"
	@echo "make test-machines  runs the suite under the conditions of other machines, for hours; writes to out/machines/"
	@echo "                    (ONLY=\"isa files\" runs some parts of it: seeds home lang read-only spaces shared order"
	@echo "                    threads worker isa aten long files python)"
	@echo "make setup          sets up .venv; the other commands do so if it is missing"
	@echo "                    (PYTHON=python3.11 selects the Python, TORCH=no leaves out torch and geoopt)"
	@echo "make lint           checks style and types"
	@echo "make parity         compares every pair of the suite once, for some minutes; open out/parity/index.html"
	@echo "make bench          compares the speed of torch and JAX; writes benchmarks/results.json and docs/speed.md"
	@echo "                    (DATA=FOLDER reads cora and disease_lp from FOLDER/prepared; other libraries are installed in out/)"
	@echo "make scale          measures what steps on split tables and graphs cost each of 1 to 8 simulated devices; writes docs/scale.md"
	@echo "make accuracy       compares geoopt and port_jax with 50-digit arithmetic; writes tables and plots to accuracy/"
	@echo "make trajectories   takes 1000 steps with every optimizer, option and manifold in geoopt and port_jax"
	@echo "make mutants        plants over 200 known errors one at a time and shows which test detects each"
	@echo "make fuzz           reads 100,000 changed files, kills convert, export and fit 500 times, and fills small disks; for an hour"
	@echo "                    (CASES=1000 and KILLS=50 are fewer; CASE=123 shows one changed file)"
	@echo "make docs           builds the site with the guide and the API reference; open out/docs/site/index.html"
	@echo "make clean          removes .venv, out/, build/ and *.egg-info"

# torch is installed first: as a dependency of another package, it would be installed as the build with CUDA.
$(READY): requirements.txt pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "hyperport needs Python 3.11 or newer; select one: make setup PYTHON=python3.11" >&2; exit 1; }
	@test "$(TORCH)" || "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
		{ echo "This is $$("$(PYTHON)" --version). $$LARGE_TORCH" >&2; exit 1; }
	"$(PYTHON)" -m venv $(VENV)
	$(if $(filter no,$(TORCH)),,$(PIP) torch==2.13.0)
	$(if $(filter no,$(TORCH)),grep -vE '^(torch|geoopt)==' requirements.txt | $(PIP) -r /dev/stdin,$(PIP) -r requirements.txt)
	$(PIP) --no-deps --editable .
	@echo "$(TORCH)" > $@

setup: $(READY)

# Without a cache, because the folder may be read-only. The types of code that imports torch cannot be checked without torch.
lint: $(READY)
	$(BIN)/ruff check --no-cache .
	$(BIN)/ruff format --no-cache --check --quiet .
	$(if $(filter no,$(TORCH)),,$(BIN)/basedpyright $(TYPED))

# The types of tests and benchmarks take as long as those of the packages, and are left to `make test-slow`.
test: TYPED := port_jax weights reference_torch
test: lint
	$(BIN)/python -m pytest -n 2

test-slow: lint
	$(BIN)/python -m pytest -n 2 -m "slow and not long"

test-machines: $(READY)
	$(BIN)/python -m parity_tests.machines $(ONLY)

demo: $(READY)
	$(BIN)/python examples/migrate_hgat.py --out "$(OUT)" $(if $(DATA),--data "$(DATA)")

parity: $(READY)
	$(BIN)/python -m parity_tests.report $(foreach kind,$(ONLY),--only $(kind))

bench: $(READY)
	DATA="$(DATA)" $(BIN)/python -m benchmarks

scale: $(READY)
	$(BIN)/python -m benchmarks.scale

accuracy: $(READY)
	$(BIN)/python -m parity_tests.oracle.accuracy

trajectories: $(READY)
	$(BIN)/python -m parity_tests.optim.trajectories

mutants: $(READY)
	$(BIN)/python -m parity_tests.mutants

fuzz: $(READY)
	$(BIN)/python -m parity_tests.fuzz $(if $(CASES),--cases $(CASES)) $(if $(KILLS),--kills $(KILLS)) $(if $(CASE),--case $(CASE))

docs: $(READY)
	$(PIP) -c requirements.txt -r docs/requirements.txt
	$(BIN)/python docs/build.py

clean:
	rm -rf $(VENV) out build *.egg-info
