# Every target works from a clean clone: it makes .venv and installs what it needs there. A stamp file for each set of
# extras keeps it from installing again until pyproject.toml changes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check --no-input

# What each target installs beside migrax itself. pyright needs to find every package that src/ imports.
EXTRAS_demo := plot,tqdm,iminuit
EXTRAS_test := test,tqdm
EXTRAS_test-all := test,tqdm,peers
EXTRAS_coverage := test,tqdm,peers,coverage
EXTRAS_lint := lint,plot,tqdm,hist,hs3,iminuit,pandas,pyhf,cli
EXTRAS_bench := bench
EXTRAS_docs := docs
EXTRAS_notebooks := notebooks

# Handed on by `make test ARGS="-k migrad"`.
ARGS ?=

# No display is needed for pictures.
MPLBACKEND ?= Agg
export MPLBACKEND

# A Python that the caller names is taken or refused; else it is the newest of those that are tested, pyenv's too.
# `make test FIRST=3.11 VENV=.venv-3.11` prefers another, in an environment of its own.
FIRST ?= 3.13
ifeq ($(origin PYTHON),file)
VERSIONS := $(FIRST) $(filter-out $(FIRST),3.13 3.12 3.11)
PYTHONS := $(foreach version,$(VERSIONS),python$(version) $(wildcard $(HOME)/.pyenv/versions/$(version).*/bin/python)) \
    $(PYTHON)
else
PYTHONS := $(PYTHON)
endif

.DEFAULT_GOAL := help
.PHONY: help demo test test-all coverage lint bench docs notebooks clean
# Two pip runs must not fill one environment at once.
.NOTPARALLEL:

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.stamp-demo ## run the demonstration, notebooks/demo.py
	@$(BIN)/python notebooks/demo.py

# What took over half a second to compile is kept for the next run. The tests of a file share compiled programs, so they
# stay with one worker.
test test-all coverage: export JAX_COMPILATION_CACHE_DIR := $(CURDIR)/.jax_cache
test test-all coverage: export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS := 0.5
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile -q

test: $(VENV)/.stamp-test ## run the fast tests, each feature once; make test ARGS="-k migrad" hands on options
	@$(PYTEST) -m "not slow" $(ARGS)

test-all: $(VENV)/.stamp-test-all ## run all tests: also grids, long scans, other packages, the pages of docs/
	@$(PYTEST) $(ARGS)

coverage: $(VENV)/.stamp-coverage ## run all tests with the coverage of lines and branches, which takes a third longer
	@$(PYTEST) --cov $(ARGS)

lint: $(VENV)/.stamp-lint ## check style, formatting, imports and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/python .ci/house.py
	@imports=$$($(BIN)/lint-imports --no-cache 2>&1) || { echo "$$imports"; exit 1; }; echo "$$imports" | grep "Contracts:"
	@$(BIN)/pyright --pythonpath $(BIN)/python
	@# With --verifytypes pyright asks the "python" on the PATH for the packages and does not look at --pythonpath.
	@typed=$$(PATH="$(abspath $(BIN)):$$PATH" PYTHONPATH=src $(BIN)/pyright --verifytypes migrax --ignoreexternal) \
	    || { echo "$$typed"; exit 1; }; echo "$$typed" | grep "completeness"

bench: $(VENV)/.stamp-bench ## run the benchmarks (they time compilation: no cache)
	@$(BIN)/python -m benchmarks.run $(ARGS)

# The theme's makers announce another project's plans at each run, unless told not to.
docs: export NO_MKDOCS_2_WARNING := 1
docs: $(VENV)/.stamp-docs ## build the documentation into site/, with warnings as errors
	@$(BIN)/python -m mkdocs build --strict --quiet

notebooks: $(VENV)/.stamp-notebooks ## execute the notebooks; make notebooks ARGS="--write" keeps their outputs
	@$(BIN)/python notebooks/execute.py $(ARGS)

clean: ## remove the environment, caches, builds and pictures
	@rm -rf $(VENV) .venv-3.* .pytest_cache .ruff_cache .jax_cache build dist out site
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.stamp-venv:
	@for python in $(PYTHONS); do \
	    if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        echo "Making $(VENV) with $$("$$python" --version)."; \
	        "$$python" -m venv $(VENV) && touch $@; \
	        exit; \
	    fi; \
	done; \
	version=$$($(PYTHON) -c 'import sys; print("is Python %d.%d" % sys.version_info[:2])' 2>/dev/null); \
	echo "migrax needs Python 3.11 or newer, but $(PYTHON) $${version:-does not run}:" \
	    "please install one and name it, as in 'make PYTHON=/path/to/python3.12 test'." >&2; \
	exit 1

$(VENV)/.stamp-%: pyproject.toml $(VENV)/.stamp-venv
	@echo "Installing migrax[$(EXTRAS_$*)] into $(VENV)."
	@$(PIP) install --editable '.[$(EXTRAS_$*)]'
	@touch $@
