# make serve: set up and start everything. make test: set up and run the tests.
# make train: train and publish the bundled adapter (one GPU, Spider in data/).
# make fuzz SECONDS=3600: random queries, then random bytes, against the guard, half the time each.
# make mutate-guard: how many changes of the guard's code its tests notice (hours; ARGS="--share 0.2": a fifth).
# make mutate-admission: the same of the code that admits adapters (minutes).
# make lifecycle: 10,000 steps of the state machine of adapters' life.
# make guard-engines: 10,000 generated queries on each real engine.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SECONDS ?= 600

.PHONY: serve train test lint types install clean fuzz mutate-guard mutate-admission guard-engines lifecycle

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

fuzz: install
	$(BIN)/python -m pip install -q -e '.[fuzz]'
	@mkdir -p runs
	$(BIN)/python -m tests.fuzz.fuzz_grammar --seconds $$(($(SECONDS) / 2)) $(ARGS)
	$(BIN)/python -m tests.fuzz.fuzz_bytes -max_total_time=$$(($(SECONDS) / 4)) -artifact_prefix=runs/
	$(BIN)/python -m tests.fuzz.fuzz_bytes --pure -max_total_time=$$(($(SECONDS) / 4)) \
		-artifact_prefix=runs/

mutate-guard: install
	$(BIN)/python -m pip install -q -e '.[fuzz]'
	$(BIN)/python -m benchmarks.mutation $(ARGS)

mutate-admission: install
	$(BIN)/python -m pip install -q -e '.[fuzz]'
	$(BIN)/python -m benchmarks.mutation --part admission $(ARGS)

guard-engines: install
	SQLWRIGHT_GUARD_QUERIES=10000 $(BIN)/python -m pytest tests/integration/test_guard_engines.py $(ARGS)

lifecycle: install
	LIFECYCLE_COURSES=200 LIFECYCLE_STEPS=50 $(BIN)/python -m pytest tests/unit/test_server_lifecycle.py $(ARGS)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
