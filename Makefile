# make serve: set up and start everything. make test: set up and run the tests.
# make train: train and publish the bundled adapter (one GPU, Spider in data/).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: serve train test lint types install clean

serve:
	@$(PYTHON) -m server.install serve --venv $(VENV)
	@exec $(BIN)/python -m server $(ARGS)

train: install
	$(BIN)/python -m trainer trainer/recipes/smollm2_135m.yaml $(ARGS)

install:
	@$(PYTHON) -m server.install all --venv $(VENV)

# Unit tests on all cores; the others share one engine.
test: install
	$(BIN)/python -m pytest -n logical tests/unit $(ARGS)
	$(BIN)/python -m pytest tests/integration $(ARGS)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
