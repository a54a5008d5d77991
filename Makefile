# Two commands on a fresh machine: `make demo` and `make test`. Each sets itself up.
PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test lint clean

$(VENV)/core: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable .
	touch $@

$(VENV)/dev: $(VENV)/core
	$(PIP) --editable '.[dev]'
	touch $@

demo: $(VENV)/core
	$(VENV)/bin/upshot run examples/chats.jsonl examples/chatgpt-export --lake demo-lake

test: $(VENV)/dev lint
	$(VENV)/bin/python -m pytest -n 2 --dist loadgroup -q

lint: $(VENV)/dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/pyright --level error
	$(VENV)/bin/lint-imports

clean:
	rm -rf $(VENV) demo-lake demo-lake.key
