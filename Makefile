# Two commands on a fresh machine: `make demo` and `make test`. Each sets itself up.
PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check
PYTEST := $(VENV)/bin/python -m pytest -n 2 --dist loadgroup -q
CUDA := triton $(addprefix cuda-,bindings pathfinder toolkit) $(addprefix nvidia-,cublas \
	cuda-cupti cuda-nvrtc cuda-runtime cudnn-cu13 cufft cufile curand cusolver cusparse \
	cusparselt-cu13 nccl-cu13 nvjitlink nvshmem-cu13 nvtx)

.PHONY: demo test fast lint cover lock clean

$(VENV)/core: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --constraint constraints.txt --editable .
	touch $@

# Everything by its hash but torch, whose build depends on the machine, then this checkout itself.
$(VENV)/dev: $(VENV)/core constraints-dev.lock
	$(PIP) --no-deps --require-hashes --requirement constraints-dev.lock
	$(PIP) --constraint constraints.txt torch
	$(PIP) --constraint constraints.txt --editable '.[dev]'
	touch $@

# What the sandbox and the proofs need of the system: bubblewrap, Coq. Installed where this may be
# done, named where not.
$(VENV)/system: $(VENV)/core
	@if ! command -v bwrap >/dev/null || ! command -v coqc >/dev/null; then \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends bubblewrap coq >/dev/null; \
		else \
			echo "The tests need bubblewrap and Coq: sudo apt-get install bubblewrap coq" >&2; exit 1; \
		fi; \
	fi
	touch $@

# A local S3 server, in an environment of its own: it needs an older python-dateutil than ours.
$(VENV)/s3: $(VENV)/core constraints-s3.lock
	$(PYTHON) -m venv $(VENV)/s3-server
	$(VENV)/s3-server/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement constraints-s3.lock
	touch $@

demo: $(VENV)/core
	$(VENV)/bin/upshot run examples/chats.jsonl examples/chatgpt-export --lake demo-lake

test: $(VENV)/dev $(VENV)/system $(VENV)/s3 lint
	$(PYTEST) --cov --cov-report=term:skip-covered

# What needs no training, no sandbox and no server: under 90 seconds.
fast: $(VENV)/dev
	$(PYTEST) -m "not train and not sandbox and not server and not slow"

lint: $(VENV)/dev
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/pyright --level error
	$(VENV)/bin/lint-imports

lock: constraints.txt pyproject.toml
	$(VENV)/bin/uv pip compile --quiet pyproject.toml --extra dev --constraint constraints.txt \
		--generate-hashes --no-emit-index-url --no-header --no-annotate --universal \
		--python-version 3.11 $(addprefix --no-emit-package ,torch $(CUDA)) -o constraints-dev.lock
	printf 'moto[s3]\nflask\nflask-cors\n' | $(VENV)/bin/uv pip compile --quiet - --generate-hashes \
		--no-emit-index-url --no-header --no-annotate --universal --python-version 3.11 \
		-o constraints-s3.lock

clean:
	rm -rf $(VENV) demo-lake demo-lake.key
