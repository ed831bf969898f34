SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-faults test-clients check docs data train publish rollback sweep persona check-persona conversations bench bench-train bench-recall bench-ingest bench-voice reindex verify-diary serve chat init up down logs ps pin-images test-compose key lock clean

PYTHON := .venv/bin/python
DEPLOYMENT := python3 -m services.deployment
# `make -n` runs any recipe line that names MAKE itself, so recipes use this alias.
SUBMAKE = $(MAKE) --no-print-directory

# Values given on the command line reach the recipes through the environment, unchanged: neither make nor a shell
# expands them.
FROM_COMMAND_LINE := $(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(name)))
$(foreach name,$(FROM_COMMAND_LINE),$(eval override $(name) := $$(value $(name)))$(eval export $(name)))
VALUES := ARGS CONFIG DIARY FILE KEEP LOCAL LOCOMO N NAME OWNER PERSONA RESUME REVOKE RPM RUN SET TIMEZONE TPM WRITE
$(foreach name,$(VALUES),$(eval $(name) ?=))
export $(VALUES)

# ARGS and SET hold several words. SPLIT splits them as a shell would, quotes included, into the array `words`.
SPLIT = split=$$(xargs -r printf '%s\n' <<< "$$$(1)"); readarray -t words < <(printf '%s' "$$split")

# ADA_PORT in .env applies to `make serve` and to the commands that talk to Ada, as it does to the containers.
ifeq ($(origin ADA_PORT),undefined)
  ADA_PORT := $(shell sed -n "s/^ADA_PORT=[\"']\{0,1\}\([0-9]*\).*/\1/p" .env 2>/dev/null | tail -n 1)
  ifneq ($(ADA_PORT),)
    export ADA_PORT
  endif
endif

# With an NVIDIA GPU: the CUDA packages of the lock and the full configuration. Without: CPU packages, small model.
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

help: ## list all targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/ready: pyproject.toml uv.lock install.sh
	@echo "installing into .venv (a few minutes the first time)"
	./install.sh .venv $(ACCELERATOR) $(EXTRAS) --group dev
	touch $@
	echo "installed in $$SECONDS s, $$(du -sh .venv | cut -f1)"

setup: .venv/ready ## install everything that Ada needs without containers into .venv

demo: .venv/ready ## train, serve and question a small Ada on this machine (KEEP=1 leaves it running)
	@$(PYTHON) -m services.demo $${KEEP:+--keep}

serve: .venv/ready ## start Ada on this machine, in the foreground
	@$(PYTHON) -m services.embedded

chat: .venv/ready ## chat with Ada in the terminal (/diary, /read, /clear, quit; ADA_URL=… or ADA_PORT=…, ARGS="--key …")
	@$(call SPLIT,ARGS)
	$(PYTHON) -m services.client "$${words[@]}"

test: .venv/ready ## run every test that needs neither a GPU nor Docker
	@$(PYTHON) -m pytest -n auto --maxprocesses 4

test-faults: .venv/ready ## write 2,000 diary entries while worker, queue and index are killed; none may be lost or doubled
	@$(PYTHON) -m pytest -s -m faults tests/faults

.venv-clients/ready: tests/clients/requirements.txt tests/clients/package-lock.json tests/clients/install.sh
	@echo "installing the tested clients into .venv-clients"
	tests/clients/install.sh
	touch $@

test-clients: .venv/ready .venv-clients/ready ## run OpenAI clients against a real vLLM on the CPU (WRITE=1 updates docs/compatibility.md)
	@$(PYTHON) -m pytest -s -m clients tests/clients

check: .venv/ready ## run ruff, mypy, import-linter and hadolint, and validate the compose files
	@$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	.venv/bin/lint-imports --no-cache
	.venv/bin/hadolint docker/*.Dockerfile
	$(PYTHON) -m pytest --quiet tests/compose/test_compose_files.py

.venv-docs/ready: pyproject.toml uv.lock install.sh
	@./install.sh .venv-docs uv
	PATH=$$PATH:.uv/bin UV_PROJECT_ENVIRONMENT=.venv-docs uv sync --quiet --frozen --only-group docs
	touch $@

# Not with --quiet: strict mode would then ignore warnings.
docs: .venv-docs/ready ## build the documentation as a site in .cache/site; a broken link is an error
	@NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build
	echo "built .cache/site; to view it: python3 -m http.server --directory .cache/site 8090"

data: .venv/ready ## show the training mixture before training: a table and a page of samples (CONFIG=…, SET="…")
	@$(call SPLIT,SET)
	$(PYTHON) -m trainer.data.report --config "$${CONFIG:-$(LOCAL_CONFIG)}" $${PERSONA:+"persona=$$PERSONA"} "$${words[@]}"

train: ## train an adapter, in the container or on this machine (CONFIG=…, SET="…", RESUME=1, LOCAL=1)
	@$(call SPLIT,SET)
	own=($${CONFIG:+--config "$$CONFIG"} $${PERSONA:+"persona=$$PERSONA"})
	if [ -n "$$RESUME" ]; then own=(--resume); fi
	if [ -z "$$LOCAL" ] && $(DEPLOYMENT) can-train; then
	  exec $(DEPLOYMENT) train "$${own[@]}" "$${words[@]}"
	fi
	$(SUBMAKE) .venv/ready
	if [ -z "$$RESUME$$CONFIG" ]; then own=(--config $(LOCAL_CONFIG) "$${own[@]}"); fi
	echo "trainer $${own[*]} $${words[*]}"
	$(PYTHON) -m trainer "$${own[@]}" "$${words[@]}"

publish: .venv/ready ## serve another run: switch outputs/ada_model (RUN=…)
	@$(PYTHON) -m trainer.publish "$$RUN"

rollback: .venv/ready ## serve the previously published run again
	@$(PYTHON) -m trainer.publish --rollback

sweep: .venv/ready ## train over a grid of settings; one table and one plot (CONFIG=trainer/configs/sweep.yaml)
	@$(call SPLIT,SET)
	$(PYTHON) -m trainer.sweep --config "$${CONFIG:-trainer/configs/sweep.yaml}" "$${words[@]}"

persona: .venv/ready ## create a persona file to fill in (NAME=…, ARGS="--user … --pronouns he/him")
	@$(call SPLIT,ARGS)
	$(PYTHON) -m services.persona new "$$NAME" "$${words[@]}"

check-persona: .venv/ready ## list every problem of a persona file (FILE=…)
	@$(PYTHON) -m services.persona check "$${FILE:-services/persona/persona.toml}"

conversations: .venv/ready ## generate conversations with any OpenAI-compatible model (N=…, ARGS="--url … --model …")
	@$(call SPLIT,ARGS)
	$(PYTHON) -m trainer.synthetic --number "$${N:-10}" $${PERSONA:+--persona "$$PERSONA"} "$${words[@]}"

bench: bench-train bench-voice ## run all benchmarks; those of the diary need LOCOMO=a LoCoMo JSON and DIARY=a JSONL file
	@[ -z "$$LOCOMO" ] || $(SUBMAKE) bench-recall FILE="$$LOCOMO"
	[ -z "$$DIARY" ] || $(SUBMAKE) bench-ingest FILE="$$DIARY"

bench-train: .venv/ready ## measure training speed and memory, next to other stacks (ARGS="--model …")
	@export ARGS="$${ARGS:-$(BENCH_TRAIN)}"
	$(call SPLIT,ARGS)
	$(PYTHON) -m trainer.bench "$${words[@]}"

bench-recall: .venv/ready ## measure the diary's recall, next to BM25 and MiniLM (FILE=a LoCoMo JSON)
	@$(PYTHON) -m services.bench.recall "$$FILE"

bench-ingest: .venv/ready ## measure how fast a diary is indexed, and recall latency (FILE=a JSONL file of {date, text})
	@$(call SPLIT,ARGS)
	$(PYTHON) -m services.bench.ingest "$$FILE" "$${words[@]}"

bench-voice: .venv/ready ## measure the API's overhead in front of vLLM, next to a bare proxy and LiteLLM (ARGS="--file … --litellm …")
	@$(call SPLIT,ARGS)
	$(PYTHON) -m services.bench.gateway "$${words[@]}"

reindex: .venv/ready ## rebuild the diary's index from the ledger while Ada keeps answering
	@$(call SPLIT,ARGS)
	$(PYTHON) -m services.client.diary reindex "$${words[@]}"

verify-diary: .venv/ready ## compare the diary's ledger with its index and report each difference
	@$(call SPLIT,ARGS)
	$(PYTHON) -m services.client.diary verify "$${words[@]}"

init: ## write .env and secrets/ with random secrets, for the containers
	@$(DEPLOYMENT) init

up: ## build and start the containers, and wait until Ada is ready
	@$(DEPLOYMENT) up

down: ## stop the containers; the diary is kept
	@$(DEPLOYMENT) down

logs: ## follow the containers' logs
	@$(DEPLOYMENT) logs

ps: ## show the containers and their health
	@$(DEPLOYMENT) ps

pin-images: ## pin the base images in .env to their current digests
	@$(DEPLOYMENT) pin-images

key: ## create an API key (OWNER=…, RPM=…, TPM=…, TIMEZONE=…), revoke keys (REVOKE=id or owner), or list them
	@$(DEPLOYMENT) key "OWNER=$$OWNER" "RPM=$$RPM" "TPM=$$TPM" "TIMEZONE=$$TIMEZONE" "REVOKE=$$REVOKE"

test-compose: .venv/ready ## build and start the containers on this machine's Docker engine, and test them with faults and attacks
	@tests/compose/with_engine.sh $(PYTHON) -m pytest -s -m compose tests/compose

lock: ## resolve the dependencies into uv.lock
	@./install.sh .venv uv && PATH=$$PATH:.uv/bin uv lock

clean: ## remove environments, caches and logs; never data/ or outputs/
	@rm -rf .venv .venv-clients .venv-docs tests/clients/node_modules .uv .cache logs .pytest_cache .mypy_cache .ruff_cache .hypothesis
