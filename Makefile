# Every target installs what it needs first. `make help` lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:

BIN := .venv/bin
STAMP := .venv/.installed
SERVICES := .venv/.installed-services
# The uv of this machine, else one of our own beside the environment.
UV := $(or $(shell command -v uv 2>/dev/null),.uv/bin/uv)
SPACE ?= spaces/quickstart.yaml
# Processes that share the tests out; a test may start a Ray of two workers, about 3 GB.
WORKERS ?= 2
ARGS ?=
COMPOSE := docker compose -f docker/compose.yaml
PYTHON_FILES := hpo tests benchmarks

export UV_PROJECT_ENVIRONMENT := .venv
# An environment that happens to be active is not ours.
unexport VIRTUAL_ENV

.PHONY: help install run test check format bench bench-short bench-tools bench-cpu bench-gpu bench-tasks plan-error replay faults-short faults load ui up down submit

help: ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

install: $(STAMP) ## install the locked dependencies into .venv

$(STAMP): pyproject.toml uv.lock | $(UV)
	$(UV) sync --locked --compile-bytecode
	@touch $@

$(SERVICES): $(STAMP)
	$(UV) sync --locked --group services --compile-bytecode
	@touch $@

.uv/bin/uv:
	python3 -m venv .uv
	.uv/bin/pip install --quiet uv==0.13.8

run: install ## search the space SPACE=... (spaces/quickstart.yaml); ARGS="..." goes to the command
	$(BIN)/python -m hpo.run --space $(SPACE) --resume $(ARGS)

test: check $(SERVICES) ## everything that must hold: the checks, then all tests with coverage, WORKERS=2 at a time; ARGS="..." goes to pytest
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup --cov --cov-report=term --cov-fail-under=90 $(ARGS)

check: install ## lint, format, types, architecture, notebooks
	$(BIN)/ruff check $(PYTHON_FILES)
	$(BIN)/ruff format --check $(PYTHON_FILES)
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/nbstripout --verify notebooks/*.ipynb

format: install ## put the code into its format
	$(BIN)/ruff check --fix-only $(PYTHON_FILES)
	$(BIN)/ruff format $(PYTHON_FILES)
	$(BIN)/nbstripout notebooks/*.ipynb

bench: bench-tools ## hours: overhead of a trial, 10,000 trials, training speed, whole searches against what people write instead; SST-2 of HPO_DATA
	$(BIN)/python -m benchmarks.overhead
	$(BIN)/python -m benchmarks.growth
	$(BIN)/python -m benchmarks.cpu
	$(BIN)/python -m benchmarks.searches $(ARGS)

bench-short: bench-tools ## the same but for the 10,000 trials, small, in ten minutes
	$(BIN)/python -m benchmarks.overhead --trials 50 --repetitions 2 --plain-trials 6
	$(BIN)/python -m benchmarks.cpu --batch 32 --arms lean,trainer-tuned,trainer --repetitions 2 --json "$$(mktemp)"
	$(BIN)/python -m benchmarks.searches --arms "ours,hf-optuna tuned" --seeds 1 --trials 6 --minutes 1 --rows 1000 --output "$$(mktemp)"

bench-tools: install
	$(UV) sync --locked --inexact --group bench

bench-gpu: install ## training speed on a GPU against Trainer, in some 8 minutes; SST-2 of HPO_DATA
	$(BIN)/python -m benchmarks.gpu $(ARGS)

bench-cpu: bench-tools ## training speed on one core of a CPU against Trainer, in some 15 minutes; SST-2 of HPO_DATA
	$(BIN)/python -m benchmarks.cpu $(ARGS)

bench-tasks: install ## what a search buys, task by task, in hours on a CPU; the sets of HPO_DATA, or ARGS="sms_spam wnut17"; writes docs/tasks.md
	$(BIN)/python -m benchmarks.tasks $(ARGS)
	$(BIN)/python -m benchmarks.tasks --table

plan-error: install ## what --dry-run predicts against what a study takes: the quickstart, and SST-2 in HPO_DATA
	$(BIN)/python -m benchmarks.plan_error $(ARGS)

replay: install ## which rungs, feedback and defaults serve, over recorded learning curves; writes docs/search.md
	$(BIN)/python -m benchmarks.rungs
	$(BIN)/python -m benchmarks.regret

faults-short: install ## 44 injections into whole studies, in about ten minutes; ARGS="--only WORDS" picks some
	$(BIN)/python tests/faults/injecting.py $(ARGS)

faults: install ## the long form: every moment, both runners, more seeds; ARGS="--results FILE --seconds 540" in parts
	$(BIN)/python tests/faults/injecting.py --long $(ARGS)

load: install ## what ledger, MLflow and registry bear, with exact counts
	$(BIN)/python -m benchmarks.load $(ARGS)

up: ## a cluster in containers: Ray, MLflow, PostgreSQL, S3; HPO_TORCH=cpu, HPO_WORKERS=2
	python3 docker/make_secrets.py
	$(COMPOSE) up --build --detach --wait

down: ## end it; its volumes stay
	$(COMPOSE) --profile gpu down

submit: ## search SPACE=... on that cluster, followed until its end; ARGS="..." goes to the command
	$(COMPOSE) run --rm submit --space $(SPACE) $(ARGS)

ui: install ## open the default MLflow store at http://127.0.0.1:5000
	MLFLOW_DISABLE_TELEMETRY=true $(BIN)/mlflow ui --backend-store-uri sqlite:///mlflow.db $(ARGS)
