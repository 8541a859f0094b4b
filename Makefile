# rag-assets: `make` alone prints what there is.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo dev test test-slow test-faults eval-retrieval bench bench-peers bench-scale lint clean

help:  ## Show the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP)  ## Create .venv and install the pinned dependencies

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "rag-assets needs Python 3.11 or later; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
	  { echo "Could not create $(VENV). On Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@echo "Installing into $(VENV): about 3 GB, a few minutes …"
	@$(BIN)/pip install --quiet --constraint constraints.txt 'torch==2.13.0' || \
	  { echo "Installing PyTorch failed; the lines above say why. Run it again when that is cured."; exit 1; }
	@$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]' || \
	  { echo "Installing failed; the lines above say why. Run it again when that is cured."; exit 1; }
	@$(BIN)/python -m compileall -q rag_assets
	@touch $(STAMP)

demo: install  ## Index and evaluate the bundled sample corpus, print the report's path and three answers
	@$(BIN)/rag-assets demo

dev: install  ## Open the Dagster UI on the same instance (= rag-assets up)
	@$(BIN)/rag-assets up

# Three processes for two cores, since tests wait much of their time; a file's tests stay together, and those that take longest are
# early in the alphabet.
test: install  ## Run the whole default test suite
	@$(BIN)/python -m pytest -q -n 3 --dist loadfile --no-loadscope-reorder

test-slow: install  ## Run what takes minutes: the Dagster UI, nightly runs (good and broken ones), a real inference server
	@$(BIN)/python -m pytest -q -n 2 --dist loadfile -m slow

test-faults: install  ## Run the fault campaign: kills, freezes and crashes by the thousand (over an hour)
	@$(BIN)/python -m pytest -q -n 2 --dist loadfile -m faults_long rag_assets_tests/faults

# The development sets are not in the repository; without them the bundled sample corpus is measured.
DATA ?= $(wildcard ../shared/data)
eval-retrieval: install  ## Measure every retrieval mode, with intervals (DATA=folder of sets: documents/ and questions.jsonl)
	@$(BIN)/python evals/retrieval.py $(if $(DATA),--data $(DATA),--data evals --sets sample)

bench: install  ## Measure how fast the live index answers: by stage, cold, under load (COLLECTION=sample)
	@$(BIN)/rag-assets bench --collection $(or $(COLLECTION),sample)

bench-peers: install  ## Measure against LlamaIndex, LangChain, CocoIndex, hnswlib, FAISS, usearch (PEERS="--documents 500 --out FILE")
	@$(BIN)/python evals/benchmarks/peers/run.py $(if $(DATA),--data $(DATA)) $(PEERS)

bench-scale: install  ## Measure time, memory and disk as the collection grows, as a plot and exponents (SCALE="--sizes 1000 10000")
	@$(BIN)/python evals/benchmarks/scale.py $(SCALE)

lint: install  ## Style, types and architecture rules
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

clean:  ## Remove .venv, caches and all state (.rag), the index included
	@test ! -x $(BIN)/python || $(BIN)/python -c 'from pathlib import Path; \
	  from rag_assets.database.embedded import embedded; embedded(Path(".rag")).destroy()'
	@rm -rf $(VENV) .rag .pytest_cache .mypy_cache .ruff_cache .hypothesis
