# The commands of the project. `make run` and `make test` work on a fresh machine with Python 3.11 and make.
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
READY   = $(VENV)/.ready

.PHONY: run test lint types check format bench bench-search bench-validate bench-terminology lock clean

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "The venv module is missing. On Debian or Ubuntu: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# `make run` is open to this machine; `make run AUTH=smart` asks for logins, and prints accounts and an app to try.
# `make run PORT=9000` listens there; a PORT that merely stands in the environment is somebody else's.
AUTH ?= none
run: $(READY)
	$(BIN)/fhir-server serve --demo --auth $(AUTH)$(if $(filter command line,$(origin PORT)), --port $(PORT))

test: $(READY)
	$(BIN)/python -m pytest -n auto --dist loadgroup

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(READY)
	$(BIN)/mypy

check: lint types test

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)
	$(BIN)/python -m bench $(BENCH)

# Each takes --quick: make bench-search BENCH=--quick
bench-search: $(READY)
	$(BIN)/python -m bench.search $(BENCH)

bench-validate: $(READY)
	$(BIN)/python -m bench.validate $(BENCH)
	$(BIN)/python -m bench.fhirpath

bench-terminology: $(READY)
	$(BIN)/python -m bench.terminology $(BENCH)

# Pinned versions with hashes, and no index address: any mirror serves.
lock:
	uv pip compile pyproject.toml --extra embedded --extra dev --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --quiet --output-file requirements.lock

clean:
	rm -rf $(VENV) .data .pytest_cache .mypy_cache .ruff_cache .hypothesis
