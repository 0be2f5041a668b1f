# Every target sets up its own virtual environment from the hash-locked requirements; python3 (3.11 or newer) is all it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo trip teams test check bench crash campaign redteam docs lock wheel clean

help:
	@echo "make install set up .venv with everything, from the hash-locked requirements"
	@echo "make demo    a support desk that survives kill -9, with a table of what was proven (TICKET=\"...\" for your own)"
	@echo "make trip    a trip of three bookings and a payment that goes wrong at every point, and is whole or none"
	@echo "make teams   agents that ask, criticise and write to each other, one of the teams under kill -9"
	@echo "make test    all tests"
	@echo "make check   format, lint, types, imports"
	@echo "make bench   benchmarks side by side with peers"
	@echo "make crash   the crash campaign"
	@echo "make campaign  the tests that generate their cases, with 10,000 new cases each"
	@echo "make redteam a model that obeys whoever it reads, against the gates: InjecAgent, AgentDojo and our own cases"
	@echo "make docs    build the documentation pages into out/docs"
	@echo "make lock    write requirements.lock again"

$(STAMP): requirements.lock bootstrap.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Handfast needs Python 3.11 or newer; say which with make PYTHON=python3.x"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r bootstrap.lock
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	$(BIN)/python -m compileall -q src
	@touch $(STAMP)

install: $(STAMP)

demo: $(STAMP)
	@$(BIN)/handfast demo $(if $(TICKET),--ticket "$$TICKET",)

trip: $(STAMP)
	@$(BIN)/python -m examples.trip

export TICKET

teams: $(STAMP)
	@$(BIN)/python -m examples.teams

test: $(STAMP)
	$(BIN)/pytest -m "not crash" --numprocesses 2 --dist worksteal

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/handfast tools check handfast.demo.support_desk.agent:desk --lock src/handfast/demo/support_desk/contracts.lock.json

wheel: $(STAMP)
	$(BIN)/python tests/wheel.py

bench: $(STAMP) benchmarks/.venv/.installed
	benchmarks/.venv/bin/python -m compileall -q src benchmarks/*.py benchmarks/peers
	benchmarks/.venv/bin/python -m benchmarks
	benchmarks/.venv/bin/python -m benchmarks.plans
	benchmarks/.venv/bin/python -m benchmarks.families
	benchmarks/.venv/bin/python -m benchmarks.permission

benchmarks/.venv/.installed: benchmarks/requirements.lock $(STAMP)
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python benchmarks/.venv
	$(BIN)/uv pip install --quiet --compile-bytecode --python benchmarks/.venv/bin/python --require-hashes -r benchmarks/requirements.lock
	$(BIN)/uv pip install --quiet --python benchmarks/.venv/bin/python --no-deps --editable .
	@touch $@

crash: $(STAMP)
	$(BIN)/pytest -m crash -s tests/crash

campaign: $(STAMP)
	$(BIN)/pytest -m "generated and not crash" --hypothesis-profile campaign --timeout 7200 --numprocesses 2 --dist worksteal

redteam: tests/redteam/.venv/.installed
	@tests/redteam/.venv/bin/python -m tests.redteam

tests/redteam/.venv/.installed: tests/redteam/requirements.lock $(STAMP)
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python tests/redteam/.venv
	$(BIN)/uv pip install --quiet --compile-bytecode --python tests/redteam/.venv/bin/python --require-hashes -r tests/redteam/requirements.lock
	$(BIN)/uv pip install --quiet --python tests/redteam/.venv/bin/python --no-deps --editable .
	@touch $@

docs: $(STAMP)
	$(BIN)/python docs/build.py

lock:
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --all-extras --group dev --python-version 3.11 -o requirements.lock pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --extra embedded --extra postgres --extra plans --extra demo --python-version 3.11 -c requirements.lock -o benchmarks/requirements.lock pyproject.toml benchmarks/requirements.in
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --extra embedded --extra plans --python-version 3.11 -c requirements.lock -o tests/redteam/requirements.lock pyproject.toml tests/redteam/requirements.in
	echo "uv==0.13.8" | $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --python-version 3.11 -o bootstrap.lock -

clean:
	rm -rf $(VENV) .handfast out dist
