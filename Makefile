# Two commands do everything on a fresh machine:   make demo   and   make test
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test integration check contract wheel-check audit crosscheck clean

demo: $(VENV)/.demo  ## answer a recorded spoken question about a picture; writes reply.wav
	$(BIN)/vita-edge demo -o reply.wav --force

test: $(VENV)/.test  ## all tests, on the CPU; live sound in a PulseAudio room where Debian's packages can be had
	scripts/audio-packages || echo "tests through PulseAudio are left out"
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not integration and not realtime"
	$(BIN)/python -m pytest -m "realtime and not integration"

integration: $(VENV)/.test  ## whole commands: traced without a network, killed, on a full disk, fuzzed
	scripts/audio-packages || echo "tests through PulseAudio are left out"
	$(BIN)/python -m pytest -m integration

check: $(VENV)/.check  ## lint, types, import contract
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

wheel-check: $(VENV)/.test  ## a wheel built from this tree talks in an empty environment
	scripts/wheel-check $(BIN)/python

audit: $(VENV)/.test  ## no known hole is installed or allowed; asks pip-audit too where that can be had
	$(BIN)/python -m pip install --quiet pip-audit || echo "pip-audit cannot be had"
	$(BIN)/python scripts/audit-dependencies

crosscheck: $(VENV)/.crosscheck  ## the language model against optimum's own export of it, in an environment of its own
	$(VENV)/crosscheck/bin/python benchmarks/crosscheck.py tests/golden/tiny-a/checkpoint --work $(VENV)/crosscheck-work

$(VENV)/.crosscheck: $(VENV)/bin/python pyproject.toml
	scripts/make-venv $(PYTHON) $(VENV)/crosscheck
	$(VENV)/crosscheck/bin/python -m pip install --quiet 'torch==2.13.0+cpu' || echo "the plain build of PyTorch follows"
	$(VENV)/crosscheck/bin/python -m pip install --quiet --editable '.[crosscheck]'
	@touch $@

$(VENV)/bin/python:
	scripts/make-venv $(PYTHON) $(VENV)

$(VENV)/.demo: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.test: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[export,video,live,bench,test]'
	$(BIN)/python -m pip install --quiet 'tensorrt-rtx>=1.7' || echo "tests of what TensorRT compiles are left out"
	$(BIN)/python -m pip install --quiet 'torch==2.13.0+cpu' || echo "tests against the PyTorch reference are left out"
	@touch $@

$(VENV)/.check: $(VENV)/.test
	$(BIN)/python -m pip install --quiet --editable '.[check]'
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info src/*.egg-info
