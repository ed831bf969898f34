SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
.PHONY: help setup demo test check train serve chat lock clean

PYTHON := .venv/bin/python
UV_VERSION := 0.13.9
UV := $(or $(shell command -v uv 2>/dev/null),.uv/bin/uv)

# With an NVIDIA card: CUDA packages as the lock has them, and the full Ada. Without: a bare machine's.
ifneq ($(shell command -v nvidia-smi 2>/dev/null),)
  EXTRAS := --extra diary --extra client --extra train --extra cuda --group dev
  INSTALL = $(UV) sync --quiet --frozen --compile-bytecode $(EXTRAS)
  DEFAULT_CONFIG := trainer/configs/ada.yaml
else
  EXTRAS := --extra diary --extra client --extra train --extra bare --group dev
  INSTALL = $(INSTALL_BARE)
  DEFAULT_CONFIG := trainer/configs/bare.yaml
endif
CONFIG ?= $(DEFAULT_CONFIG)

# A folder of wheels given to pip serves uv too; without one, uv asks PyTorch's own CPU index.
ifneq ($(PIP_FIND_LINKS),)
  TORCH_FROM := UV_FIND_LINKS=$(PIP_FIND_LINKS)
else
  TORCH_FROM := UV_TORCH_BACKEND=cpu
endif

# The lock names PyPI's torch, which brings CUDA. A bare machine takes the CPU wheel of the same version
# instead, and leaves out triton; everything else is exactly what the lock says, by hash.
define INSTALL_BARE
$(UV) export --quiet --frozen $(EXTRAS) --no-annotate --prune torch --prune triton --output-file .venv/requirements.txt
$(UV) export --quiet --frozen $(EXTRAS) --no-annotate --no-hashes --output-file .venv/constraints.txt
echo "triton; sys_platform == 'never'" > .venv/overrides.txt
$(TORCH_FROM) $(UV) pip install --quiet --python .venv --compile-bytecode --override .venv/overrides.txt \
  --constraint .venv/constraints.txt --requirement .venv/requirements.txt torch
endef

help: ## list every verb
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.uv/bin/uv:
	python3 -m venv .uv
	.uv/bin/pip install --quiet uv==$(UV_VERSION)

# Bytecode is compiled here once: without it every start of vLLM compiles for half a minute.
.venv/ready: pyproject.toml uv.lock | $(UV)
	@echo "installing into .venv (a few minutes the first time)"
	$(UV) venv --quiet --allow-existing .venv
	$(INSTALL)
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

check: .venv/ready ## ruff, mypy, import-linter
	@$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	.venv/bin/lint-imports --no-cache

train: .venv/ready ## data to adapter in outputs/ (CONFIG=trainer/configs/ada.yaml, SET="lora_rank=32 …")
	@echo "training in the local environment with $(CONFIG)"
	$(PYTHON) -m trainer --config $(CONFIG) $(if $(PERSONA),persona=$(PERSONA)) $(SET)

lock: | $(UV) ## resolve the dependencies anew into uv.lock
	@$(UV) lock

clean: ## remove the environment, caches and logs; never data/ or outputs/
	@rm -rf .venv .uv .cache logs .pytest_cache .mypy_cache .ruff_cache .hypothesis
