# Seven verbs. Nothing is needed but Python 3.11 and make; `install` brings the rest into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install demo run test lint bench docs
.DEFAULT_GOAL := run

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@if command -v uv >/dev/null 2>&1; then \
		uv venv --quiet --allow-existing --python $(PYTHON) $(VENV) && \
		uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[dev]'; \
	else \
		$(PYTHON) -m venv $(VENV) && \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'; \
	fi
	@touch $(STAMP)

demo: install  ## the main job, from nothing: serve, register and schedule two flows, run them with a real worker
	$(BIN)/python examples/demo.py

run: install  ## the server, its scheduler and services
	$(BIN)/python manage.py serve

test: install  ## everything, on SQLite and on PostgreSQL
	ORCHESTRATOR_TEST_DATABASE=sqlite $(BIN)/python -m pytest -q -n 2
	ORCHESTRATOR_TEST_DATABASE=postgresql $(BIN)/python -m pytest -q -n 2

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python manage.py check
	$(BIN)/python manage.py makemigrations --check --dry-run

bench: install  ## ratios beside the reference server; writes docs/performance.md
	$(BIN)/python -m bench

docs: install  ## the API description, as a file
	$(BIN)/python manage.py spectacular --file build/openapi.yaml
