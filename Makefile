# mnistmp: `make reproduce` on a machine with Python 3.10+, make and git. `make` alone lists the targets.
#
#   ARGS    goes to the command behind the target: make reproduce ARGS="--rows standard,rcl-inf --seeds 0-2"
#   PRESET  the preset of `make figures` and `make report`: digits, quick or paper
#   PYTHON  the interpreter that .venv is made from, the first time
#   MNISTMP_DATA, MNISTMP_RESULTS and MNISTMP_FIGURES pass through the environment.

# Candidates, best first. Each is tried by running it: a shim of a version manager may exist and not work.
PYTHON ?= python3.13 python3.12 python3.11 python3.10 python3 python
PRESET ?= paper
ARGS   ?=

VENV  := .venv
PY    := $(VENV)/bin/python
PIP   := $(PY) -m pip --disable-pip-version-check
STAMP := $(VENV)/.installed

# A virtual environment holds absolute paths. One that was moved, copied, or lost its interpreter is made again.
VENV_WORKS = (test "$$(cat $(VENV)/.made-in)" = "$$(pwd -P)" && $(PY) -c '') 2>/dev/null
REMAKE    := $(shell $(VENV_WORKS) || echo force)

# Sets $python to the first candidate that can make a virtual environment, or stops with one sentence.
FIND_PYTHON = for python in $(PYTHON) ''; do \
	    "$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && break; \
	done; \
	test -n "$$python" || { \
	    echo 'mnistmp needs Python 3.10 or newer with its venv module (on Debian and Ubuntu the package python3-venv);' \
	         'tried: $(PYTHON); name another with PYTHON=/path/to/python.' >&2; exit 1; }

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup reproduce demo paper figures report doctor lab notebooks release test test-faults lint bench lock audit clean force

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP) ## create .venv and install the locked packages (the other targets do this by themselves)

# The stamp is written last, so that an interrupted installation goes on the next time.
$(STAMP): requirements.lock pyproject.toml $(REMAKE)
	@$(VENV_WORKS) || { $(FIND_PYTHON); \
	    echo "Making $(VENV) with $$python; installing takes a few minutes and, on Linux, about 6 GB."; \
	    "$$python" -m venv --clear $(VENV) && pwd -P >$(VENV)/.made-in; }
	$(PIP) install -r requirements.lock
	$(PIP) install --no-deps -e .
	@touch $@

force:

reproduce: setup ## the small run: the whole pipeline on the embedded digits, in minutes
	$(VENV)/bin/mnistmp reproduce --preset digits $(ARGS)

demo: reproduce ## the same: a first look at all of it, not the paper's numbers

paper: setup ## the paper's protocol on MNIST, 10 seeds; goes on from the recorded runs
	$(VENV)/bin/mnistmp reproduce --preset paper $(ARGS)

figures: setup ## draw the figures again from the records (PRESET=paper)
	$(VENV)/bin/mnistmp figures --preset $(PRESET) $(ARGS)

report: setup ## make one website of the notebooks in site/, to open from disk (PRESET=paper)
	$(VENV)/bin/mnistmp report --preset $(PRESET) $(ARGS)

doctor: setup ## say whether this machine can run all of it, and what to do where not
	$(VENV)/bin/mnistmp doctor $(ARGS)

lab: setup ## open the notebooks in JupyterLab
	$(VENV)/bin/jupyter lab notebooks $(ARGS)

notebooks: setup ## run the committed notebooks again and clean their outputs
	$(VENV)/bin/mnistmp notebooks $(ARGS)

release: setup ## pack records, figures, website and data set into one archive in dist/ (PRESET=paper)
	$(VENV)/bin/mnistmp release --preset $(PRESET) --to dist $(ARGS)

# A backend named in the environment would make the notebooks' inline figures vanish without an error.
# Figures go to a folder of their own: a test changes none that are committed. So does IPython's profile, where a
# user's would change outputs. One thread each, as a sweep's units have:
# several that share a core with other work wait for each other.
# Faults that need whole sweeps take minutes: `make test-faults`.
test: setup ## the tests, and the notebooks against their committed outputs, side by side
	@own=$$(mktemp -d) && trap 'rm -rf "$$own"' EXIT || exit; unset MPLBACKEND; export OMP_NUM_THREADS=1; \
	    MNISTMP_FIGURES=$$own/figures IPYTHONDIR=$$own/ipython \
	        $(PY) -m pytest --nbval-lax --nbval-current-env --nbval-cell-timeout=300 \
	        --nbval-sanitize-with tests/nbval_sanitize.cfg notebooks/ >$$own/log 2>&1 & \
	    child=$$!; trap 'kill $$child; exit 130' INT; tests=0; notebooks=0; \
	    $(PY) -m pytest -m 'not (faults and slow)' $(ARGS) || tests=$$?; \
	    wait $$child || notebooks=$$?; cat $$own/log; \
	    echo "exit codes: $$tests of the tests, $$notebooks of the notebooks"; exit $$((tests || notebooks))

test-faults: setup ## the tests that inject faults (killed sweeps, full disks, torn records), then a table of them
	$(PY) -m pytest -m faults $(ARGS)

lint: setup ## ruff: likely errors, and the format (ARGS=--fix repairs what it can)
	$(VENV)/bin/ruff check $(ARGS) .
	$(VENV)/bin/ruff format $(if $(findstring --fix,$(ARGS)),,--check) .

bench: setup ## measure the training speed beside plain PyTorch
	$(PY) benchmarks/training_speed.py $(ARGS)

# uv and pip-audit live in an environment of their own: nothing that only maintains the lock belongs in it.
# --strict: a package that could not be looked up is a failure, not a pass.
lock: .venv-tools/.installed ## bring requirements.lock in line with pyproject.toml (ARGS=--upgrade: newest versions)
	.venv-tools/bin/uv pip compile --universal --python-version 3.10 --no-emit-index-url --no-annotate \
	    --extra test --extra dask pyproject.toml --output-file requirements.lock --quiet $(ARGS)

audit: .venv-tools/.installed ## look the locked packages up among the known vulnerabilities
	.venv-tools/bin/pip-audit --strict --disable-pip --no-deps --requirement requirements.lock $(ARGS)

.venv-tools/.installed:
	@$(FIND_PYTHON); "$$python" -m venv --clear .venv-tools
	.venv-tools/bin/python -m pip --disable-pip-version-check install --quiet uv pip-audit
	@touch $@

# Never a record: results/<preset>/runs stays, and so does .venv.
clean: ## remove caches, build leftovers and failed attempts; records stay
	rm -rf build site .pytest_cache .hypothesis .ruff_cache .venv-tools *.egg-info
	rm -rf "$${MNISTMP_RESULTS:-results}"/*/attempts
	find . -path './.venv*' -prune -o -path ./.git -prune -o \
	    \( -name __pycache__ -o -name .ipynb_checkpoints \) -type d -exec rm -rf {} +
