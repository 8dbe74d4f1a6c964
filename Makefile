# Two commands on a fresh machine with Python >= 3.11, make and git: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
UV_VERSION := 0.13.8
DEMO := demo
# Most tests keep one core busy; a file's tests stay together, as they share what is costly to make.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

.PHONY: setup demo test slow check
setup: .venv/.ready

.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "impure needs Python 3.11 or newer; set PYTHON=")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv==$(UV_VERSION)
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint constraints.txt --editable '.[defences,diffusion,export,figures,query,ray,references,remote,slurm,tensorboard]' --group dev
	touch $@

# The main job on the built-in data: sample, attack, store, train, evaluate.
demo: setup
	PATH=$(CURDIR)/$(BIN):$$PATH sh examples/demo.sh $(DEMO)

test: setup
	$(PYTEST)

slow: setup
	$(PYTEST) -m 'slow or real'

check: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
