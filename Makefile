SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-faults test-clients check data train publish rollback sweep persona check-persona conversations bench bench-train bench-recall bench-ingest bench-voice reindex verify-diary serve chat init up down logs ps pin-images test-compose key lock clean

PYTHON := .venv/bin/python
FRONT_DOOR := python3 -m services.deployment
# By a name of its own, because a recipe that names MAKE is run by `make -n` too.
AGAIN = $(MAKE) --no-print-directory

# Values of the command line reach the recipes by the environment, as they were written: neither make nor a shell
# expands them.
FROM_COMMAND_LINE := $(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(name)))
$(foreach name,$(FROM_COMMAND_LINE),$(eval override $(name) := $$(value $(name)))$(eval export $(name)))
VALUES := ARGS CONFIG DIARY FILE KEEP LOCAL LOCOMO N NAME OWNER PERSONA RESUME REVOKE RPM RUN SET TIMEZONE TPM WRITE
$(foreach name,$(VALUES),$(eval $(name) ?=))
export $(VALUES)

# ARGS and SET hold several words. They are split as a shell splits them, quotes included, into the array `words`.
SPLIT = split=$$(xargs -r printf '%s\n' <<< "$$$(1)"); readarray -t words < <(printf '%s' "$$split")

# The port in .env moves `make serve` and the commands that talk to her as it moves the containers.
ifeq ($(origin ADA_PORT),undefined)
  ADA_PORT := $(shell sed -n "s/^ADA_PORT=[\"']\{0,1\}\([0-9]*\).*/\1/p" .env 2>/dev/null | tail -n 1)
  ifneq ($(ADA_PORT),)
    export ADA_PORT
  endif
endif

# With an NVIDIA card: CUDA packages as the lock has them, and the full Ada. Without: a bare machine's.
ifneq ($(shell command -v nvidia-smi 2>/dev/null),)
  ACCELERATOR := cuda
  EXTRAS := --extra diary --extra embedded --extra client --extra tracing --extra train --extra cuda
  LOCAL_CONFIG := trainer/configs/ada.yaml
  BENCH_TRAIN := --model Qwen/Qwen3-8B
else
  ACCELERATOR := cpu
  EXTRAS := --extra diary --extra embedded --extra client --extra tracing --extra train --extra small --extra onnx --extra cpu
  LOCAL_CONFIG := trainer/configs/bare.yaml
  BENCH_TRAIN := --model package:smollm2-135m-instruct --steps 6 --tokens 512
endif

help: ## list every verb
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/ready: pyproject.toml uv.lock install.sh
	@echo "installing into .venv (a few minutes the first time)"
	./install.sh .venv $(ACCELERATOR) $(EXTRAS) --group dev
	touch $@
	echo "installed in $$SECONDS s, $$(du -sh .venv | cut -f1)"

setup: .venv/ready ## install everything a bare machine needs into .venv

demo: .venv/ready ## the whole loop on a bare machine, for real (KEEP=1 leaves her up)
	@$(PYTHON) -m services.demo $${KEEP:+--keep}

serve: .venv/ready ## start Ada on a bare machine, in the foreground; says when she is up
	@$(PYTHON) -m services.embedded

chat: .venv/ready ## chat with Ada in the terminal (/diary, /read, /clear, quit; ADA_URL=… or ADA_PORT=…, ARGS="--key …")
	@$(call SPLIT,ARGS)
	$(PYTHON) -m services.client "$${words[@]}"

test: .venv/ready ## every test that needs no card and no Docker engine
	@$(PYTHON) -m pytest

test-faults: .venv/ready ## 2,000 diary entries while worker, queue and index are killed: none lost, none twice
	@$(PYTHON) -m pytest -s -m faults tests/faults

.venv-clients/ready: tests/clients/requirements.txt tests/clients/package-lock.json tests/clients/install.sh
	@echo "installing other people's clients into .venv-clients"
	tests/clients/install.sh
	touch $@

test-clients: .venv/ready .venv-clients/ready ## real OpenAI clients against the real vLLM on the CPU (WRITE=1 writes docs/compatibility.md)
	@$(PYTHON) -m pytest -s -m clients tests/clients

check: .venv/ready ## ruff, mypy, import-linter, hadolint, compose files
	@$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	.venv/bin/lint-imports --no-cache
	.venv/bin/hadolint docker/*.Dockerfile
	$(PYTHON) -m pytest --quiet tests/compose/test_compose_files.py

data: .venv/ready ## the mixture as a table and a page of samples, before training on it (CONFIG=…, SET="…")
	@$(call SPLIT,SET)
	$(PYTHON) -m trainer.data.report --config "$${CONFIG:-$(LOCAL_CONFIG)}" $${PERSONA:+"persona=$$PERSONA"} "$${words[@]}"

train: ## data to adapter in outputs/, in the trainer's container or here (CONFIG=…, SET="…", RESUME=1, LOCAL=1)
	@$(call SPLIT,SET)
	own=($${CONFIG:+--config "$$CONFIG"} $${PERSONA:+"persona=$$PERSONA"})
	if [ -n "$$RESUME" ]; then own=(--resume); fi
	if [ -z "$$LOCAL" ] && $(FRONT_DOOR) can-train; then
	  exec $(FRONT_DOOR) train "$${own[@]}" "$${words[@]}"
	fi
	$(AGAIN) .venv/ready
	if [ -z "$$RESUME$$CONFIG" ]; then own=(--config $(LOCAL_CONFIG) "$${own[@]}"); fi
	echo "trainer $${own[*]} $${words[*]}"
	$(PYTHON) -m trainer "$${own[@]}" "$${words[@]}"

publish: .venv/ready ## serve another run: switch outputs/ada_model (RUN=…)
	@$(PYTHON) -m trainer.publish "$$RUN"

rollback: .venv/ready ## back to the run that was served before
	@$(PYTHON) -m trainer.publish --rollback

sweep: .venv/ready ## runs over a grid of settings, one table and plot (CONFIG=trainer/configs/sweep.yaml)
	@$(call SPLIT,SET)
	$(PYTHON) -m trainer.sweep --config "$${CONFIG:-trainer/configs/sweep.yaml}" "$${words[@]}"

persona: .venv/ready ## a new persona's file, to be filled in (NAME=…, ARGS="--user … --pronouns he/him")
	@$(call SPLIT,ARGS)
	$(PYTHON) -m services.persona new "$$NAME" "$${words[@]}"

check-persona: .venv/ready ## everything that is wrong with a persona file (FILE=…)
	@$(PYTHON) -m services.persona check "$${FILE:-services/persona/persona.toml}"

conversations: .venv/ready ## new Drew/Ada conversations by any OpenAI-compatible model (N=…, ARGS="--url … --model …")
	@$(call SPLIT,ARGS)
	$(PYTHON) -m trainer.synthetic --number "$${N:-10}" $${PERSONA:+--persona "$$PERSONA"} "$${words[@]}"

bench: bench-train bench-voice ## every benchmark; those of the diary with LOCOMO=a LoCoMo JSON, DIARY=JSONL of {date, text}
	@[ -z "$$LOCOMO" ] || $(AGAIN) bench-recall FILE="$$LOCOMO"
	[ -z "$$DIARY" ] || $(AGAIN) bench-ingest FILE="$$DIARY"

bench-train: .venv/ready ## tokens a second and memory of training, beside other stacks (ARGS="--model …")
	@export ARGS="$${ARGS:-$(BENCH_TRAIN)}"
	$(call SPLIT,ARGS)
	$(PYTHON) -m trainer.bench "$${words[@]}"

bench-recall: .venv/ready ## how often her diary finds the right turn, beside BM25 and MiniLM (FILE=a LoCoMo JSON)
	@$(PYTHON) -m services.bench.recall "$$FILE"

bench-ingest: .venv/ready ## how fast a whole diary is searchable, and recall's latency (FILE=JSONL of {date, text})
	@$(call SPLIT,ARGS)
	$(PYTHON) -m services.bench.ingest "$$FILE" "$${words[@]}"

bench-voice: .venv/ready ## what Ada costs in front of vLLM, beside a bare proxy and LiteLLM (ARGS="--file … --litellm …")
	@$(call SPLIT,ARGS)
	$(PYTHON) -m services.bench.gateway "$${words[@]}"

reindex: .venv/ready ## build the diary's index anew from the ledger, while Ada goes on answering
	@$(call SPLIT,ARGS)
	$(PYTHON) -m services.client.diary reindex "$${words[@]}"

verify-diary: .venv/ready ## compare the diary's ledger with its index, and name each difference
	@$(call SPLIT,ARGS)
	$(PYTHON) -m services.client.diary verify "$${words[@]}"

init: ## write .env with random secrets, for the containers
	@$(FRONT_DOOR) init

up: ## the deployment: build, start, wait until Ada is ready
	@$(FRONT_DOOR) up

down: ## end the deployment; the diary stays
	@$(FRONT_DOOR) down

logs: ## follow the deployment's logs
	@$(FRONT_DOOR) logs

ps: ## the deployment's containers and their health
	@$(FRONT_DOOR) ps

pin-images: ## write the base images by digest into .env, as their registries give them now
	@$(FRONT_DOOR) pin-images

key: ## an API key, shown once (OWNER=…, RPM=…, TPM=…, TIMEZONE=…); take one away (REVOKE=id or owner); alone: list them
	@$(FRONT_DOOR) key "OWNER=$$OWNER" "RPM=$$RPM" "TPM=$$TPM" "TIMEZONE=$$TIMEZONE" "REVOKE=$$REVOKE"

test-compose: .venv/ready ## build and start the deployment on this machine's Docker engine, and attack it
	@tests/compose/with_engine.sh $(PYTHON) -m pytest -s -m compose tests/compose

lock: ## resolve the dependencies anew into uv.lock
	@./install.sh .venv uv && PATH=$$PATH:.uv/bin uv lock

clean: ## remove the environment, caches and logs; never data/ or outputs/
	@rm -rf .venv .venv-clients tests/clients/node_modules .uv .cache logs .pytest_cache .mypy_cache .ruff_cache .hypothesis
