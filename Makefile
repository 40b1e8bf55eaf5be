PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKDIR ?= runs/agreid_vit_skyground
DEMO ?= runs/demo
DOCS := .venv-docs

.PHONY: demo train test test-slow lint docs clean

# The environment is made once, and again when the requirements change.
$(VENV)/ready: requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -e ".[test]"
	touch $@

# The AG-ReID configuration on the embedded default: trains, evaluates A->G and G->A.
train: $(VENV)/ready
	$(BIN)/python run.py --config=configs/agreid_vit.py:skyground --workdir=$(WORKDIR)

# From nothing to a page of ranked lists: a small network on 96 synthetic people, tested on 96 others.
demo: $(VENV)/ready
	$(BIN)/python run.py --config=configs/agreid_bot_r50.py:skyground --workdir=$(DEMO) \
		--config.phase.reid.epochs=6 --config.phase.reid.schedule.warmup_steps=30 \
		--config.data.image_size="(96,48)" --config.evaluate.every_epochs=0
	$(BIN)/python -m g2ajax rank --model=$(DEMO) --worst=10
	@page=$(DEMO)/report.html; [ -f $$page ] || page=$(DEMO)/rank/A2G-reid.html; \
		echo "look at $$page"; \
		if [ -n "$$DISPLAY$$WAYLAND_DISPLAY" ] && command -v xdg-open > /dev/null; then xdg-open $$page; \
		elif [ "$$(uname)" = Darwin ]; then open $$page; fi

test: $(VENV)/ready
	$(BIN)/pytest -q -rs -n 2 --dist loadgroup -m "not slow"

test-slow: $(VENV)/ready
	$(BIN)/pytest -q -m slow

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# The documentation as a site, in site/; a warning is an error. The generator reads the sources and
# needs none of what the package imports, so it has an environment of its own.
$(DOCS)/ready: pyproject.toml
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/pip install --quiet --upgrade pip
	$(DOCS)/bin/pip install --quiet $$($(PYTHON) -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['docs'])")
	touch $@

docs: $(DOCS)/ready
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --strict --quiet

clean:
	rm -rf $(VENV) $(DOCS) site .cache
