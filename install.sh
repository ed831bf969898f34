#!/usr/bin/env bash
# Install the locked packages into a virtual environment: install.sh VENV cpu|cuda [options for uv …]
# Used by the Makefile and the Dockerfiles. Without options for uv it only installs uv itself.
set -euo pipefail
cd "$(dirname "$0")"
venv=$1 accelerator=$2
shift 2

uv=$(command -v uv || true)
if [ -z "$uv" ]; then
  uv=.uv/bin/uv
  if ! [ -x $uv ]; then
    python3 -m venv .uv
    # Hashes of the wheels for glibc on x86_64, for aarch64, and for musl on x86_64.
    .uv/bin/pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: --requirement <(
      echo "uv==0.13.9" \
        --hash=sha256:d7f459fe4fd247d830351c75686d3996ace3c6f3f728eb0e85a30b7ada0cef19 \
        --hash=sha256:5435c5ce14a56431208ca0996416d310f1598e8c2c8ba707688985a16bb82dbe \
        --hash=sha256:2c45530751517d6c3bbc69a19473f6effe47cce047bede01ffd8af7ea7b36b25
    )
  fi
fi
[ $# -gt 0 ] || exit 0

# Compile bytecode once. Otherwise every start of vLLM spends half a minute on it.
export UV_COMPILE_BYTECODE=1
$uv venv --quiet --allow-existing --python python3 "$venv"
if [ "$accelerator" = cuda ]; then
  UV_PROJECT_ENVIRONMENT=$venv $uv sync --quiet --frozen "$@"
  exit
fi

# The lock has PyPI's torch, which includes CUDA. Without a GPU, install the CPU wheel of the same version and leave
# out triton. All other packages are installed exactly as locked, with hashes.
$uv export --quiet --frozen "$@" --no-annotate --prune torch --prune triton --output-file "$venv/requirements.txt"
$uv export --quiet --frozen "$@" --no-annotate --no-hashes --output-file "$venv/constraints.txt"
echo "triton; sys_platform == 'never'" > "$venv/overrides.txt"
# Use a folder of wheels configured for pip, if it has torch. Otherwise uv uses PyTorch's CPU index.
if compgen -G "${PIP_FIND_LINKS:-/nowhere}/torch-*.whl" > /dev/null; then
  export UV_FIND_LINKS=$PIP_FIND_LINKS
else
  export UV_TORCH_BACKEND=cpu
fi
$uv pip install --quiet --python "$venv" --override "$venv/overrides.txt" \
  --constraint "$venv/constraints.txt" --requirement "$venv/requirements.txt" torch
