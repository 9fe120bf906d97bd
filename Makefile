# The commands a newcomer types. Each works from a clean clone.
.DEFAULT_GOAL := help
.PHONY: help setup web demo cluster quick test coverage check-all check format bench bench-short sim proof mutants chaos soak fuzz docs release pykka-suite clean
BIN := .venv/bin
export PYTHONHASHSEED := 0

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: ## everything into .venv
	@scripts/setup.sh dev

demo: ## a local IMAP server with sample mail, the service, and a link to watch it
	@scripts/setup.sh run
	@scripts/web.sh || echo "demo: going on without the console" >&2
	@$(BIN)/huahuo demo

web: ## the browser client and the console, into huahuo/pages/static
	@scripts/web.sh

cluster: ## three nodes over three NATS servers, sample mail, and a page that breaks them
	@scripts/setup.sh cluster
	@scripts/web.sh || echo "cluster: going on without the console" >&2
	@$(BIN)/huahuo demo --cluster

quick: ## form, types, unit and property tests of one room: ROOM=transport/session
	@scripts/setup.sh dev
	@$(BIN)/python -m scripts.quick $(ROOM)

test: ## every test, in six processes at a time; ARGS="-k resume" chooses
	@scripts/test_needs.sh || echo "test: going on without" >&2
	@scripts/setup.sh dev
	@scripts/web.sh test || { [ -z "$$CI" ] && echo "test: THE BROWSER PARTS WERE NOT BUILT AND NOT TESTED" >&2; }
	$(BIN)/python -m scripts.suite $(ARGS)

coverage: ## branch coverage of the log, sessions, access, codec and apply: docs/testing.md
	@scripts/setup.sh dev
	$(BIN)/python -m scripts.coverage

check-all: ## the whole suite on every Python from 3.12 on that is there; goes on where it was, ARGS=--again does not
	@scripts/test_needs.sh || echo "check-all: going on without" >&2
	@scripts/setup.sh dev
	@scripts/web.sh test || { [ -z "$$CI" ] && echo "check-all: THE BROWSER PARTS WERE NOT BUILT AND NOT TESTED" >&2; }
	@scripts/web_package.sh || { [ -z "$$CI" ] && echo "check-all: the npm archive was not checked" >&2; }
	@scripts/check_all.sh $(ARGS)

check: ## format, lint, types, import contracts
	@scripts/setup.sh dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m scripts.weight --check

format: ## put the code into shape
	@scripts/setup.sh dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: ## the quick form of every benchmark
	@scripts/setup.sh dev
	$(BIN)/python -m bench all --quick

bench-short: ## three minutes: ratios to the last published figures
	@scripts/setup.sh dev
	$(BIN)/python -m bench short

sim: ## one simulated run: SEED=7 [HOURS=0.5] [ENGINE=sqlite]; see docs/testing.md
	@scripts/setup.sh dev
	$(BIN)/python -m tests.support.simulator $(if $(SEED),--seed $(SEED),--seeds 0-19) $(if $(HOURS),--hours $(HOURS)) $(if $(ENGINE),--engine $(ENGINE))

proof: ## many simulated runs, with a table of what they proved: SEEDS=0-799 [WITHIN_S=3600] [GATE=1]
	@scripts/setup.sh dev
	$(BIN)/python -m tests.support.simulator --seeds $(or $(SEEDS),0-799) --within-s $(or $(WITHIN_S),0) $(if $(SEEDS),$(if $(GATE),--gate),--gate)
	$(BIN)/python -m tests.support.models.power_images --images $(if $(WITHIN_S),2000 --within-s 20,100000)
	$(BIN)/python -m tests.support.models.call_faults $(if $(WITHIN_S),--every 29 --within-s 10)

mutants: ## deliberate bugs, each of which must be found
	@scripts/setup.sh dev
	$(BIN)/python -m tests.support.mutants

chaos: ## three nodes, three servers of their log, clients, and a fault every 5 s: CLIENTS=1000 SECONDS=600 LOG=nats
	@scripts/setup.sh dev
	$(BIN)/python -m tests.support.chaos --clients $(or $(CLIENTS),1000) --seconds $(or $(SECONDS),600) --log $(or $(LOG),nats)

soak: ## clients that come and go for MINUTES=30, then all that the service holds is as before them
	@scripts/setup.sh dev
	$(BIN)/python -m tests.support.soak --minutes $(or $(MINUTES),30)

fuzz: ## bytes of strangers for everything that reads them: SECONDS for each reader, guided where atheris is
	@scripts/setup.sh dev
	$(BIN)/python -m tests.support.fuzz $(if $(SECONDS),--seconds $(SECONDS))

docs: ## the guides and the reference as one site, into build/docs
	@scripts/docs.sh

release: ## source archive, wheel, bill of materials and checksums, into dist
	@scripts/release.sh

pykka-suite: ## pykka's own tests, run against our actors too
	@scripts/setup.sh dev
	$(BIN)/python -m tests.support.drivers.pykka_suite

clean: ## remove what make made
	rm -rf .venv .venv-3.* .venv-docs .venv-release build dist .tools web/node_modules huahuo/pages/static .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
