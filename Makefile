# One command on a fresh machine does all set-up: a virtual environment in .venv, the pinned dependencies, the package.
#   make demo    a learned simulator, five policies, one report (runs/demo/report.html)
#   make reproduce   the numbers of docs/results.md on trust, policies and statistics
#   make test    the whole test suite            make test PYTEST_ARGS="tests/data -x"
#   make lint    ruff and mypy                   make clean    remove .venv and caches
# Choose another interpreter with `make test PYTHON=python3.12`.

PYTHON ?= python3
VENV ?= .venv
PYTEST_ARGS ?=
PY := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
ROOMS := envs evals policies training assets

export MUJOCO_GL ?= egl
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: setup demo test reproduce lint format typings clean

setup: $(INSTALLED)

# openpi-client, which only tests use, asks for numpy < 2 without needing it: hence --no-deps.
# torch comes at the version pinned in constraints.txt. To use another build (CUDA, ROCm, CPU only), install it into
# $(VENV) first; the pin accepts any build of that version.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python 3.11 or newer is needed, $(PYTHON) is %d.%d; try make PYTHON=python3.11" % sys.version_info[:2])'
	@test -x $(PY) || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	    echo "error: $(PYTHON) cannot create a virtual environment; install its venv module (Debian: python3-venv)" >&2; exit 1; }
	@echo "installing wfm-sim and what it needs into $(VENV) (minutes the first time)"
	@$(PY) -m pip install -q -c constraints.txt -e '.[dev]'
	@$(PY) -m pip install -q -c constraints.txt --no-deps openpi-client
	@touch $@

demo: $(INSTALLED)
	@$(VENV)/bin/wfm-sim demo

test: $(INSTALLED)
	@$(PY) -m pytest $(PYTEST_ARGS)

# The numbers of docs/results.md on policies: about an hour on two cores; run again after a stop, it resumes.
STANDARD := zero,expert-late3,random,expert-flawed,expert-noise0.8,bc-state-300,expert-noise0.6,bc-pixels-800,expert-noise0.4,bc-state-1000,bc-pixels-2400,expert-offset0.02,expert-noise0.2,expert-slow0.5,expert-noise0.1,expert
reproduce: $(INSTALLED)
	@$(VENV)/bin/wfm-sim eval nano --episodes 200 --out runs/eval/nano
	@$(VENV)/bin/wfm-sim eval trust --episodes 200 --out runs/eval/trust
	@$(VENV)/bin/wfm-sim eval policy --policies $(STANDARD) --episodes 100 --seed 1 --out runs/eval/policy
	@$(VENV)/bin/wfm-sim leaderboard runs/eval/nano runs/eval/trust runs/eval/policy -o runs/site
	@$(PY) benchmarks/statistics_coverage.py
	@$(PY) benchmarks/action_mismatches.py

lint: $(INSTALLED) typings
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy

format: $(INSTALLED)
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

# What a type checker cannot work out for itself: wfm_sim as it looks when installed, core and rooms in one folder.
typings:
	@mkdir -p typings/wfm_sim
	@find typings/wfm_sim -type l -delete
	@for part in wfm_sim/*.py wfm_sim/py.typed wfm_sim/*/ $(ROOMS); do \
	    case $$part in *__pycache__*) ;; *) ln -sfn ../../$${part%/} typings/wfm_sim/$$(basename $$part);; esac; done

clean:
	rm -rf $(VENV) typings build dist .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
