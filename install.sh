#!/usr/bin/env bash
# Install what the lock says into a virtual environment: install.sh VENV cpu|cuda [options for uv …]
# The Makefile uses it on a bare machine, the Dockerfiles in their first stage.
set -euo pipefail
cd "$(dirname "$0")"
venv=$1 accelerator=$2
shift 2

uv=$(command -v uv || true)
if [ -z "$uv" ]; then
  uv=.uv/bin/uv
  [ -x $uv ] || { python3 -m venv .uv && .uv/bin/pip install --quiet --disable-pip-version-check uv==0.13.9; }
fi
[ $# -gt 0 ] || exit 0 # uv alone was wanted

# Bytecode is compiled here once: without it every start of vLLM compiles for half a minute.
export UV_COMPILE_BYTECODE=1
$uv venv --quiet --allow-existing --python python3 "$venv"
if [ "$accelerator" = cuda ]; then
  UV_PROJECT_ENVIRONMENT=$venv $uv sync --quiet --frozen "$@"
  exit
fi

# The lock names PyPI's torch, which brings CUDA. Without a card the CPU wheel of the same version is taken
# instead, and triton is left out; everything else is exactly what the lock says, by hash.
$uv export --quiet --frozen "$@" --no-annotate --prune torch --prune triton --output-file "$venv/requirements.txt"
$uv export --quiet --frozen "$@" --no-annotate --no-hashes --output-file "$venv/constraints.txt"
echo "triton; sys_platform == 'never'" > "$venv/overrides.txt"
# A folder of wheels given to pip serves uv too; without one, uv asks PyTorch's own CPU index.
if compgen -G "${PIP_FIND_LINKS:-/nowhere}/torch-*.whl" > /dev/null; then
  export UV_FIND_LINKS=$PIP_FIND_LINKS
else
  export UV_TORCH_BACKEND=cpu
fi
$uv pip install --quiet --python "$venv" --override "$venv/overrides.txt" \
  --constraint "$venv/constraints.txt" --requirement "$venv/requirements.txt" torch
