# What a developer types. `make demo` and `make test` need nothing but Python 3.11 or newer.

PYTHON ?= python3
VENV ?= .venv
EVENTS ?= 20000
PORT ?= 8000
EVENTS_READ ?= 1000000
READ_DATA ?= /var/tmp/auditportal-read-$(EVENTS_READ)
PYTEST_ARGS ?= -n auto
TEST_DATA ?= $(CURDIR)/var/tests
BIN = $(VENV)/bin
MANAGE = $(BIN)/python manage.py

# A deployment's environment as far as checks look at it; nothing answers at that address.
DEPLOYED = DATABASE_URL=postgres://web@127.0.0.1:1/x AUDITPORTAL_ORIGIN=audit.example.org \
	ALLOWED_HOSTS=audit.example.org EMAIL_URL=smtp+tls://audit.example.org:587 \
	SECRET_KEY=$$($(PYTHON) -c 'import secrets; print(secrets.token_urlsafe(50))')

.PHONY: help demo test lint format lock bench bench-read install install-tests clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 16

demo: install ## set everything up and serve the portal with sample events (PORT=8000 EVENTS=20000)
	@exec $(MANAGE) demo --events $(EVENTS) --port $(PORT)

test: install-tests ## run all tests, on a PostgreSQL of their own
	@mkdir -p $(TEST_DATA)
	AUDITPORTAL_DATA_DIR=$(TEST_DATA) $(BIN)/python -m pytest $(PYTEST_ARGS)

bench: install-tests ## ingest, sealing, verification and detection against named baselines, as ratios
	$(BIN)/python -m tests.bench.ingest
	$(BIN)/python -m tests.bench.load
	$(BIN)/python -m tests.bench.ledger
	$(BIN)/python -m tests.bench.detection

bench-read: install-tests ## every page that reads, against Django's own admin (EVENTS_READ=1000000)
	$(BIN)/python -m tests.bench.read --events $(EVENTS_READ) --data $(READ_DATA)

lint: install-tests ## style, types, layers, migrations, a deployment's settings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .
	$(BIN)/lint-imports
	$(DEPLOYED) $(BIN)/python -W ignore::RuntimeWarning manage.py makemigrations --check --dry-run
	$(DEPLOYED) $(MANAGE) check --deploy --fail-level WARNING
	$(DEPLOYED) $(MANAGE) spectacular --validate --fail-on-warn --file /dev/null

format: install-tests ## put the code into its one form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: install ## renew requirements.txt and tests/requirements.txt from pyproject.toml
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-annotate --no-header \
		--python-version 3.11 pyproject.toml -o requirements.txt
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-annotate --no-header \
		--python-version 3.11 -c requirements.txt --group test -o tests/requirements.txt

install: $(VENV)/.installed
install-tests: $(VENV)/.installed-tests

$(VENV)/.installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "AuditPortal needs Python 3.11 or newer; name one: make PYTHON=python3.12 …"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.txt
	@touch $@

$(VENV)/.installed-tests: $(VENV)/.installed tests/requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r tests/requirements.txt
	@touch $@

clean: ## remove the virtual environment and all caches; the data in var/ stays
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
