PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKDIR ?= runs/agreid_vit_skyground

.PHONY: train test test-slow lint clean

# The environment is made once, and again when the requirements change.
$(VENV)/ready: requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -e ".[test]"
	touch $@

# The AG-ReID configuration on the embedded default: trains, evaluates A->G and G->A.
train: $(VENV)/ready
	$(BIN)/python run.py --config=configs/agreid_vit.py:skyground --workdir=$(WORKDIR)

test: $(VENV)/ready
	$(BIN)/pytest -q -rs -n 2 --dist loadgroup -m "not slow"

test-slow: $(VENV)/ready
	$(BIN)/pytest -q -m slow

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:
	rm -rf $(VENV) .cache
