# Every target makes .venv and the embedded database first if it needs them: `make demo` is a fine first command.
.DEFAULT_GOAL := help
SHELL := /bin/sh
MAKEFLAGS += --no-print-directory

ifneq ($(firstword $(sort 3.81 $(MAKE_VERSION))),3.81)
$(error GNU make 3.81 or newer is needed, this is $(MAKE_VERSION). Without it: sh deploy/demo.sh, sh deploy/test.sh)
endif

PYTEST_ARGS ?=
BENCH_ARGS ?=
SECONDS ?= 0
SEEDS ?= 1000
RUN := deploy/run
.PHONY: help demo test test-timescaledb parity parity-hourly kill-test real-parts past-sessions replay-proof causality event-bars stream-soak stream-faults validity-peers sweep-memory sweep-cores mutants simulate simulate-ci simulate-one simulate-mutants soak metrics-peers risk-peers risk-mutants browser-test up down status logs memory env lock wheels bench bench-storage bench-ratios bench-peers prove sandbox compose-check pi-setup lint clean venv venv-dev vendor-faults ingest-memory

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' Makefile

demo: ## two sessions of real sample data through Airflow, with a summary and a report
	@deploy/demo.sh

test: ## all tests but the slow and the browser ones, on all cores (PYTEST_ARGS="-k ledger -x": those, in one process)
	@deploy/test.sh $(PYTEST_ARGS)

test-timescaledb: ## the tests that use a database, on TimescaleDB instead of plain PostgreSQL
	@deploy/test.sh --timescaledb $(PYTEST_ARGS)

parity: venv-dev ## stages = backtest = the Decimal day loop, on the sample and on random markets
	@$(RUN) python -m pytest -q -s -m "slow or not slow" tests/integration/test_three_way_parity.py tests/integration/test_two_bars.py tests/property $(PYTEST_ARGS)

parity-hourly: venv-dev ## the same on real hourly bars (fetches the wheel of backtesting once), with shorts and brackets
	@$(RUN) python -m pytest -q -s -m "slow or not slow" tests/integration/test_hourly_parity.py $(PYTEST_ARGS)

kill-test: venv-dev ## 100 kills of stages around their commits (KILL_SEED=n has one run again)
	@$(RUN) python -m pytest -q -s -m slow tests/integration/test_killed_stages.py $(PYTEST_ARGS)

real-parts: venv-dev ## 200 sessions at Alpaca's stand-in, everything killed at random: both sides agree (RUNS=n, REAL_PARTS_SEED=n)
	@$(RUN) python -m pytest -q -s -m slow tests/system/test_real_parts.py $(PYTEST_ARGS)

past-sessions: venv-dev ## five years of past sessions with live keys in place: nothing is sent
	@$(RUN) python -m pytest -q -s -m "slow or not slow" tests/integration/test_past_sessions.py $(PYTEST_ARGS)

sweep-memory: venv-dev ## a sweep of 1,000,000 pairs needs the memory of one of 10,000
	@$(RUN) python -m pytest -q -s -m slow tests/integration/test_sweep_memory.py $(PYTEST_ARGS)

sweep-cores: venv-dev ## a sweep on all cores against one, wall-clock; on a quiet machine (BENCH_ARGS="--rounds 3")
	@$(RUN) --no-database python bench/sweep_cores.py $(BENCH_ARGS)

vendor-faults: venv-dev ## 500 random schedules of a bad vendor: the database is the truth, or untouched (VENDOR_SEED=n: that one)
	@$(RUN) python -m pytest -q -s -m slow tests/integration/test_vendor_faults.py $(PYTEST_ARGS)

ingest-memory: venv-dev ## memory (PSS) of an ingest task of 500 symbols, above a task that does nothing
	@$(RUN) python -m pytest -q -s -m slow tests/system/test_ingest_memory.py $(PYTEST_ARGS)

mutants: venv-dev ## plant a fault at a time in a copy of the sources: each must turn a comparison red
	@$(RUN) python -m pytest -q -s -m slow tests/integration/test_mutants.py

metrics-peers: venv-dev ## empyrical and quantstats, in an environment of their own: the golden figures, and ours beside them
	@.venv/bin/python -m venv .local/peers && .local/peers/bin/python -m pip install --quiet -r tests/golden/metrics-peers.in
	@.local/peers/bin/python tests/golden/make_metrics_peers.py --check
	@$(RUN) --no-database python -m pytest -q tests/unit/reports/test_metrics_peers.py tests/unit/reports/test_metrics_complete.py

risk-peers: venv-dev ## skfolio, riskfolio-lib and PyPortfolioOpt, in an environment of their own: the golden figures, and ours beside them
	@.venv/bin/python -m venv .local/risk-peers && .local/risk-peers/bin/python -m pip install --quiet -r tests/golden/risk-peers.in
	@.local/risk-peers/bin/python tests/golden/make_risk_peers.py --check
	@$(RUN) --no-database python -m pytest -q tests/unit/risk/test_risk_peers.py

risk-mutants: venv-dev ## plant a fault at a time in limits and pre-trade checks, by cosmic-ray: each must turn their tests red (MUTANTS="--sample 10")
	@.venv/bin/python -m venv .local/risk-mutants && .local/risk-mutants/bin/python -m pip install --quiet -r tests/golden/risk-mutants.in
	@.local/risk-mutants/bin/python tests/risk_mutants.py $(MUTANTS)

validity-peers: venv-dev ## arch and mlfinpy, in an environment of their own: the golden figures, and ours beside them
	@.venv/bin/python -m venv .local/validity-peers && .local/validity-peers/bin/python -m pip install --quiet -r tests/golden/validity-peers.in
	@.local/validity-peers/bin/python tests/golden/make_validity_peers.py --check
	@$(RUN) --no-database python -m pytest -q -m "not slow" tests/unit/research

causality: venv-dev ## the causality proof of every built-in strategy at every bar of the sample, and of planted leaks
	@$(RUN) --no-database python -m pytest -q -s -m "slow or not slow" tests/unit/research/test_causality.py

event-bars: venv-dev ## bars of 500,000 real trades (fetches the wheel of mlfinpy once): the naive twin's and mlfinpy's; trades a second
	@$(RUN) --no-database python -m pytest -q -s -m "slow or not slow" tests/unit/ticks $(PYTEST_ARGS)

stream-soak: venv-dev ## 10,000 messages a second for 60 s into the database, the connection cut ten times: lag, and nothing lost
	@$(RUN) python -m pytest -q -s -m slow tests/integration/test_stream.py $(PYTEST_ARGS)

stream-faults: venv-dev ## the stream through 100 random fault schedules (STREAM_SEED=n has one run again)
	@$(RUN) python -m pytest -q -s -m slow tests/integration/test_stream_faults.py $(PYTEST_ARGS)

replay-proof: venv-dev ## a past day with a cold numba cache and under a second numba version: the same hashes
	@.venv/bin/python -m pip install --quiet --target .local/second-numba --upgrade --no-deps "numba==0.68.1" "llvmlite==0.50.0"
	@$(RUN) python -m pytest -q -s -m "slow or not slow" tests/integration/test_replay_elsewhere.py $(PYTEST_ARGS)

simulate: venv-dev ## execution under every cell of the fault matrix and SEEDS=1000 random seeds; writes a report page
	@PYTHONPATH=tests $(RUN) --no-database python -m simulation --seeds $(SEEDS)

simulate-ci: venv-dev ## the same with 300 seeds: what CI runs
	@PYTHONPATH=tests $(RUN) --no-database python -m simulation --seeds 300

simulate-one: venv-dev ## one run of it again, with its trace: SEED=n, or PLAN='...' as a failure prints it
	@PYTHONPATH=tests $(RUN) --no-database python -m simulation $(if $(PLAN),--plan '$(PLAN)',--seed $(SEED))

simulate-mutants: venv-dev ## plant a bug in execution at a time: the simulation must find each within 300 seeds
	@PYTHONPATH=tests $(RUN) --no-database python -m simulation.mutants

soak: venv-dev ## 10,000 random seeds
	@PYTHONPATH=tests $(RUN) --no-database python -m simulation --no-cells --seeds 10000

browser-test: venv-dev ## Airflow's own pages in a real Chromium (Debian: apt install chromium), on a stack of its own
	@$(RUN) --no-database python -m pytest -m browser tests/browser $(PYTEST_ARGS)

sandbox: venv ## Alpaca offline: the sample's prices moved to today on 127.0.0.1:8098; prints the lines for .env
	@$(RUN) --no-database python -m tests.alpaca_standin --port 8098 --sandbox .local/sandbox

up: venv ## start the stack in the background; prints URL and login
	@$(RUN) python deploy/stack.py up

down: venv ## stop the stack and the embedded database
	@$(RUN) --no-database python deploy/stack.py down

status: venv ## what runs; fails if a part is missing
	@$(RUN) --no-database python deploy/stack.py status

logs: venv ## follow the logs of all parts
	@$(RUN) --no-database python deploy/stack.py logs

memory: venv ## memory (PSS) of every process; SECONDS=60 samples once a second and adds the peak
	@$(RUN) --no-database python deploy/stack.py memory --seconds $(SECONDS)

env: venv ## write .env with generated secrets, from .env.example
	@PYTHONPATH=include .venv/bin/python -m tradecore env

lint: venv-dev ## ruff and mypy
	@.venv/bin/ruff check . && .venv/bin/mypy

bench: venv-dev ## stage times for 5, 100 and 500 symbols, rows a second in and out (BENCH_ARGS="--symbols 500 --json")
	@$(RUN) python bench/session.py $(BENCH_ARGS)

bench-storage: venv-dev ## 1,000,000 bars in, again, restated and out, beside psql's \copy and ADBC (BENCH_ARGS="--rows 100000 --rounds 3")
	@.venv/bin/python -m pip install --quiet --target .local/storage-peers --upgrade --no-deps "adbc-driver-postgresql==1.13.0" "adbc-driver-manager==1.13.0"
	@$(RUN) python bench/storage.py $(BENCH_ARGS)

bench-ratios: venv-dev ## the kernels against plain C, interleaved, as ratios of CPU time (BENCH_ARGS="--only sweep --json")
	@$(RUN) --no-database python bench/ratios.py $(BENCH_ARGS)

bench-peers: venv-dev ## the same rules in vectorbt, backtrader, zipline and others, each in its own environment, beside C and ours
	@$(RUN) --no-database python bench/peers.py $(BENCH_ARGS)

prove: venv-dev ## run every claim of docs/PROOFS.md and write down what was seen
	@$(RUN) python deploy/prove.py

compose-check: venv-dev ## docker-compose.yaml and the image's build steps, without Docker
	@$(RUN) --no-database python -m pytest -q tests/system/test_compose.py tests/system/test_image_steps.py

pi-setup: venv-dev ## setup_pi.sh inside a debootstrapped trixie, twice (root, Debian; some minutes)
	@$(RUN) --no-database python -m pytest -q -m "slow or not slow" tests/system/test_pi.py

lock: venv ## resolve requirements*.in into requirements*.txt, with hashes
	@deploy/lock.sh lock

wheels: venv ## prove that every pin has a binary wheel and its hash is locked: x86_64 and aarch64, Python 3.11 to 3.13
	@deploy/lock.sh wheels

clean: ## stop everything and remove .venv and .local: all data of this installation; asks first
	@deploy/clean.sh

venv:
	@deploy/bootstrap.sh

venv-dev:
	@deploy/bootstrap.sh dev
