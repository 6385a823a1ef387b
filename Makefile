# Two commands do everything on a fresh machine with Python 3.11 and make: `make demo`, `make test`.

PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export TF_CPP_MIN_LOG_LEVEL ?= 3
export TF_USE_LEGACY_KERAS := 1

.PHONY: help env system demo test test-slow lint types bench bench-quick results lock clean distclean

help:  ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(STAMP): requirements.txt setup.py
	@echo "== environment: 260 pinned packages into $(VENV) (one to three minutes, about 3 GB)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv>=0.5"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -r requirements.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

env: $(STAMP)  ## the environment, from requirements.txt

system:  ## Debian's packages that some tests want: a Redis server, a browser (they skip without)
	@{ command -v redis-server && command -v chromedriver; } >/dev/null || { apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq redis-server chromium chromium-driver >/dev/null; }

demo: $(STAMP)  ## pipeline on the bundled sample, server, a real gRPC query, recommendations
	@$(BIN)/tfrec demo

test: $(STAMP) lint types  ## all tests but the slow ones
	@$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile

test-slow: $(STAMP)  ## the slow tests
	@$(BIN)/python -m pytest -m slow

lint: $(STAMP)  ## ruff
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(STAMP)  ## mypy on the public modules
	@$(BIN)/mypy tfrec serving pipelines

bench: $(STAMP)  ## all benchmarks in full (hours), then RESULTS.md
	@$(BIN)/python -m benchmarks.run_all && $(MAKE) results

bench-quick: $(STAMP)  ## each benchmark's two-minute variant
	@$(BIN)/python -m benchmarks.run_all --quick

results: $(STAMP)  ## render benchmarks/RESULTS.md from benchmarks/results/*.json
	@$(BIN)/python -m benchmarks.render

lock: $(STAMP)  ## resolve requirements.txt anew from requirements/pins.in
	@$(BIN)/uv pip compile --quiet requirements/pins.in --override requirements/overrides.txt \
	  --no-emit-index-url --no-header --no-annotate --python-version 3.11 -o requirements.txt

clean:  ## runs and caches
	rm -rf runs .cache .mypy_cache .ruff_cache .pytest_cache build dist *.egg-info

distclean: clean  ## clean, and the environment
	rm -rf $(VENV)
