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

# What the sandbox and the proofs need of the system: bubblewrap, Coq. Installed where this may be done, named where not.
$(VENV)/system: $(VENV)/core
	@if ! command -v bwrap >/dev/null || ! command -v coqc >/dev/null; then \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends bubblewrap coq >/dev/null; \
		else \
			echo "The tests need bubblewrap and Coq: sudo apt-get install bubblewrap coq" >&2; exit 1; \
		fi; \
	fi
	touch $@

demo: $(VENV)/core
	$(VENV)/bin/upshot run examples/chats.jsonl examples/chatgpt-export --lake demo-lake

test: $(VENV)/dev $(VENV)/system lint
	$(VENV)/bin/python -m pytest -n 2 --dist loadgroup -q

lint: $(VENV)/dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/pyright --level error
	$(VENV)/bin/lint-imports

clean:
	rm -rf $(VENV) demo-lake demo-lake.key
