SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-faults test-clients check data train publish rollback sweep conversations bench bench-train bench-recall bench-ingest bench-voice reindex verify-diary serve chat init up down logs ps test-compose key lock clean

PYTHON := .venv/bin/python
FRONT_DOOR := python3 -m services.deployment

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
	@$(PYTHON) -m services.demo $(if $(KEEP),--keep)

serve: .venv/ready ## start Ada on a bare machine, in the foreground
	@$(PYTHON) -m services.embedded

chat: .venv/ready ## chat with Ada in the terminal (/diary, /read, /clear, quit)
	@$(PYTHON) -m services.client

test: .venv/ready ## every test that needs no card and no Docker engine
	@$(PYTHON) -m pytest

test-faults: .venv/ready ## 2,000 diary entries while worker, queue and index are killed: none lost, none twice
	@$(PYTHON) -m pytest -s -m faults tests/faults

.venv-clients/ready: tests/clients/requirements.txt tests/clients/package-lock.json tests/clients/install.sh
	@echo "installing other people's clients into .venv-clients"
	tests/clients/install.sh
	touch $@

test-clients: .venv/ready .venv-clients/ready ## real OpenAI clients against the real vLLM on the CPU (WRITE=1 writes docs/compatibility.md)
	@WRITE=$(WRITE) $(PYTHON) -m pytest -s -m clients tests/clients

check: .venv/ready ## ruff, mypy, import-linter, hadolint, compose files
	@$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	.venv/bin/lint-imports --no-cache
	.venv/bin/hadolint docker/*.Dockerfile
	$(PYTHON) -m pytest --quiet tests/compose/test_compose_files.py

data: .venv/ready ## the mixture as a table and a page of samples, before training on it (CONFIG=…, SET="…")
	@$(PYTHON) -m trainer.data --config $(or $(CONFIG),$(LOCAL_CONFIG)) $(PERSONA:%=persona=%) $(SET)

train: ## data to adapter in outputs/, in the trainer's container or here (CONFIG=…, SET="…", RESUME=1, LOCAL=1)
	@arguments="$(if $(RESUME),--resume,--config $(or $(CONFIG),$(LOCAL_CONFIG)) $(PERSONA:%=persona=%)) $(SET)"
	if [ -z "$(LOCAL)" ] && $(FRONT_DOOR) can-train; then
	  exec $(FRONT_DOOR) train $(if $(RESUME),--resume,$(CONFIG:%=--config %) $(PERSONA:%=persona=%)) $(SET)
	fi
	$(MAKE) --no-print-directory .venv/ready
	echo "trainer $$arguments"
	$(PYTHON) -m trainer $$arguments

publish: .venv/ready ## serve another run: switch outputs/ada_model (RUN=…)
	@$(PYTHON) -m trainer.publish $(or $(RUN),"")

rollback: .venv/ready ## back to the run that was served before
	@$(PYTHON) -m trainer.publish --rollback

sweep: .venv/ready ## runs over a grid of settings, one table and plot (CONFIG=trainer/configs/sweep.yaml)
	@$(PYTHON) -m trainer.sweep --config $(or $(CONFIG),trainer/configs/sweep.yaml) $(SET)

conversations: .venv/ready ## new Drew/Ada conversations by any OpenAI-compatible model (N=…, ARGS="--url … --model …")
	@$(PYTHON) -m trainer.author --number $(or $(N),10) $(PERSONA:%=--persona %) $(ARGS)

bench: bench-train bench-voice ## every benchmark; those of the diary with LOCOMO=a LoCoMo JSON, DIARY=JSONL of {date, text}
	@$(if $(LOCOMO),$(MAKE) --no-print-directory bench-recall FILE=$(LOCOMO))
	$(if $(DIARY),$(MAKE) --no-print-directory bench-ingest FILE=$(DIARY))

bench-train: .venv/ready ## tokens a second and memory of training, beside other stacks (ARGS="--model …")
	@$(PYTHON) -m trainer.bench $(or $(ARGS),$(BENCH_TRAIN))

bench-recall: .venv/ready ## how often her diary finds the right turn, beside BM25 and MiniLM (FILE=a LoCoMo JSON)
	@$(PYTHON) -m services.bench.recall $(FILE)

bench-ingest: .venv/ready ## how fast a whole diary is searchable, and recall's latency (FILE=JSONL of {date, text})
	@$(PYTHON) -m services.bench.ingest $(FILE) $(ARGS)

bench-voice: .venv/ready ## what Ada costs in front of vLLM, beside a bare proxy and LiteLLM (ARGS="--file … --litellm …")
	@$(PYTHON) -m services.bench.voice $(ARGS)

reindex: .venv/ready ## build the diary's index anew from the ledger, while Ada goes on answering
	@$(PYTHON) -m services.client.diary reindex

verify-diary: .venv/ready ## compare the diary's ledger with its index, and name each difference
	@$(PYTHON) -m services.client.diary verify

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

key: ## an API key, shown once (OWNER=…, RPM=…, TPM=…); take one away (REVOKE=id or owner); alone: list them
	@$(FRONT_DOOR) key "OWNER=$(OWNER)" "RPM=$(RPM)" "TPM=$(TPM)" "REVOKE=$(REVOKE)"

test-compose: .venv/ready ## build and start the deployment on this machine's Docker engine, and attack it
	@tests/compose/with_engine.sh $(PYTHON) -m pytest -s -m compose tests/compose

lock: ## resolve the dependencies anew into uv.lock
	@./install.sh .venv uv && PATH=$$PATH:.uv/bin uv lock

clean: ## remove the environment, caches and logs; never data/ or outputs/
	@rm -rf .venv .venv-clients tests/clients/node_modules .uv .cache logs .pytest_cache .mypy_cache .ruff_cache .hypothesis
