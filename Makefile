# gdlab: `make help` lists the targets. All need Python 3.11 or newer, which PYTHON names.
PYTHON ?= python3
VENV ?= .venv
WORKDIR ?= runs/variants
LEDGER_ARGS ?= --workers=2
PYTEST_ARGS ?= -n 2 --dist loadfile --no-loadscope-reorder

PYVERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
SUPPORTED := $(shell $(PYTHON) -c 'import sys; print("yes" if sys.version_info >= (3, 11) else "")' 2>/dev/null)
FOUND = $(if $(PYVERSION),is Python $(PYVERSION),was not found)

BIN = $(VENV)/bin
# A stamp carries the Python version: another PYTHON, or a change of what is asked for, makes a new environment.
CORE = $(VENV)/.core-$(PYVERSION)
DEV = $(VENV)/.dev-$(PYVERSION)
DOCS = $(VENV)/.docs-$(PYVERSION)

.PHONY: help demo studies ledger docs test test-faults quick docs-test slow lint format lock clean
.DELETE_ON_ERROR:

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(firstword $(MAKEFILE_LIST)) | sed -E 's/:[^#]*## /: /' | \
	  while IFS=: read -r name text; do printf '  %-10s%s\n' "$$name" "$$text"; done

demo: $(CORE)  ## run the first study, batch, stochastic and mini-batch descent on the digits, once, into WORKDIR
	$(BIN)/python -m experiments.variants --config=configs/variants.py --workdir=$(WORKDIR) --repeat=0

studies: $(CORE)  ## run the studies of saddles, minima and batch size, into runs/, in about 50 minutes
	for study in saddles minima batch_size; do \
	  $(BIN)/python -m experiments.$$study --config=configs/$$study.py --workdir=runs/$$study || exit 1; \
	done

ledger: $(CORE)  ## run what has changed of all studies and write one page with every claim, into runs/ledger
	$(BIN)/python -m experiments.ledger --workdir=runs/ledger $(LEDGER_ARGS)

docs: $(DOCS)  ## build the site into docs/_build/html, in five minutes from nothing; notebooks that changed are run again
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet docs docs/_build/html
	@echo 'docs/_build/html/index.html'

test: $(DEV)  ## run the tests, with every docstring's and the README's examples
	$(BIN)/python -m pytest $(PYTEST_ARGS)

quick: $(DEV)  ## run the tests that a change touches, for two minutes at most; the first time all, to learn which
	$(BIN)/python -m pytest $(PYTEST_ARGS) --testmon --testmon-forceselect $(if $(wildcard .testmondata),--session-timeout=120)

docs-test: $(DEV)  ## run the examples alone (part of test)
	$(BIN)/python -m pytest tests/test_readme.py gdlab

slow: $(DEV)  ## run the tests that need minutes
	$(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

test-faults: $(DEV)  ## make faults for real: kills, flipped bits, full disks, malformed input; in twenty minutes
	$(BIN)/python -m pytest -m faults -rA --no-header $(PYTEST_ARGS) tests/faults

lint: $(DEV)  ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(DEV)  ## rewrite the sources in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock:  ## lock the newest versions that the bounds in pyproject.toml allow
	$(PYTHON) -m venv --clear .lock-venv
	.lock-venv/bin/python -m pip install --quiet uv
	.lock-venv/bin/uv pip compile --quiet --no-config --universal --python-version 3.11 --upgrade --extra cuda --extra tpu --extra dask --extra slurm --extra trackers --extra docs --extra dev \
	  --custom-compile-command 'make lock' --output-file requirements.lock pyproject.toml
	rm -rf .lock-venv

clean:  ## remove the environment and the tools' caches (never WORKDIR)
	[ ! -e $(VENV)/pyvenv.cfg ] || rm -rf $(VENV)
	rm -rf .lock-venv .mypy_cache .pytest_cache .ruff_cache build dist docs/_build docs/reference

$(CORE): pyproject.toml requirements.lock
	$(if $(SUPPORTED),,$(error gdlab needs Python 3.11 or newer; PYTHON=$(PYTHON) $(FOUND)))
	@[ ! -e $(VENV) ] || [ -e $(VENV)/pyvenv.cfg ] || { echo 'VENV=$(VENV) is not a virtual environment' >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable .
	@touch $@

# After the core, not beside it: two pips in one environment would break it under make -j.
$(DEV): $(CORE)
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable '.[dev]'
	@touch $@

$(DOCS): $(CORE)
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable '.[docs]'
	@touch $@
