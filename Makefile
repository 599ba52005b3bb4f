# make serve: set up and start everything. make test: set up and run the tests.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: serve test lint types install clean

serve:
	@$(PYTHON) -m server.install serve --venv $(VENV)
	@exec $(BIN)/python -m server $(ARGS)

install:
	@$(PYTHON) -m server.install all --venv $(VENV)

test: install
	$(BIN)/python -m pytest $(ARGS)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
