# make demo | test | lint | clean. Each makes .venv first when it is missing or out of date.
# make demo ARGS='--seed 3', make test ARGS='tests/test_goals.py -x'

VENV ?= .venv
PYTHON ?= python3
TORCH ?= torch==2.13.0
# An index to look for PyTorch in too, such as that of its builds without CUDA (3 GB less).
TORCH_INDEX ?=
export TORCH_INDEX
ARGS ?=
# Processes that share the tests; 0 runs them one after the other in one.
WORKERS ?= 2

RUN = $(VENV)/bin/python
READY = $(VENV)/.ready

.PHONY: demo test lint clean venv same_python
.DEFAULT_GOAL := help

help:
	@echo 'make demo   the whole loop on the simulated robot'
	@echo 'make test   every test but the slow ones'
	@echo 'make lint   ruff'
	@echo 'make venv   only prepare $(VENV)'
	@echo 'make clean  remove $(VENV) and everything that was built'

$(READY): .ci/make_venv .ci/ensure_gl.py requirements.txt requirements-ros.txt requirements-jazzy.txt setup.py
	@.ci/make_venv '$(VENV)' '$(PYTHON)' '$(TORCH)'
	@touch $@

# A Python that is asked for is not passed over because another one's environment is there.
ifeq ($(origin PYTHON),command line)
$(READY): | same_python
endif

same_python:
	@.ci/same_python '$(VENV)' '$(PYTHON)'

venv: $(READY)

demo: $(READY)
	@$(RUN) -m stable_crl_ros.cli demo $(ARGS)

test: $(READY)
	@OMP_NUM_THREADS=1 $(RUN) -m pytest -n $(WORKERS) $(ARGS)

lint: $(READY)
	@$(RUN) -m ruff check .

clean:
	rm -rf $(VENV) build install log *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
