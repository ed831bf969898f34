#!/usr/bin/env bash
# Run a command with a Docker engine at hand: with_engine.sh COMMAND …
#
# The engine that answers is used as it is. Where none does, root on Debian gets one of its own: newer engine parts
# are unpacked, not installed, started with all their data in one folder, and ended afterwards. ENGINE_HOME=FOLDER
# keeps that folder, and with it all images, for the next time. Base images that no registry gives are made from Debian.
set -euo pipefail
cd "$(dirname "$0")/../.."
say() { printf '[%4d s] %s\n' "$SECONDS" "$*"; }
die() { echo "with_engine: $*" >&2; exit 2; }
mirror=$(awk '/^URIs:/ {print $2; exit}' /etc/apt/sources.list.d/debian.sources 2>/dev/null || true)
mirror=${mirror:-http://deb.debian.org/debian}

start_engine() {
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || die "no Docker engine answers: start one (this is not root on Debian)"
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends runc iptables tini mmdebstrap >/dev/null
  mountpoint -q /sys/fs/cgroup || die "no cgroup file system is mounted, which a Docker engine needs"
  [ -x "$home/x/usr/sbin/dockerd" ] || unpack_engine
  export PATH="$home/x/usr/sbin:$home/x/usr/bin:$PATH" DOCKER_CONFIG="$home/cfg" DOCKER_HOST="unix://$home/docker.sock"
  mkdir -p "$DOCKER_CONFIG/cli-plugins"
  ln -sf "$home"/x/usr/libexec/docker/cli-plugins/* "$DOCKER_CONFIG/cli-plugins/"
  dockerd --data-root "$home/root" --exec-root "$home/exec" --pidfile "$home/pid" --init-path /usr/bin/tini-static \
    --host "$DOCKER_HOST" >"$home/log" 2>&1 </dev/null &
  engine=$!
  for _ in $(seq 120); do docker info >/dev/null 2>&1 && break; kill -0 "$engine" 2>/dev/null || break; sleep 0.5; done
  docker info >/dev/null 2>&1 || { tail -5 "$home/log" >&2; die "the Docker engine did not start, as it says above"; }
}

# Debian's stable engine is too old for compose.yaml. runc stays the stable one, which newer engines work with.
unpack_engine() {
  for suite in forky trixie; do
    rm -rf "$home/apt" "$home/deb" "$home/x"
    mkdir -p "$home"/apt/{lists/partial,cache/archives/partial,parts,pref} "$home/deb" "$home/x"
    printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: %s\n' \
      "$mirror" "$suite" /usr/share/keyrings/debian-archive-keyring.gpg >"$home/apt/parts/engine.sources"
    printf '%s;\n' "Dir::Etc::sourcelist \"/dev/null\"" "Dir::Etc::sourceparts \"$home/apt/parts\"" \
      "Dir::Etc::preferences \"/dev/null\"" "Dir::Etc::preferencesparts \"$home/apt/pref\"" \
      "Dir::State::lists \"$home/apt/lists\"" "Dir::Cache \"$home/apt/cache\"" 'APT::Sandbox::User "root"' >"$home/apt/conf"
    local packages="docker.io docker-compose docker-buildx containerd"
    command -v docker >/dev/null || packages="$packages docker-cli"
    # shellcheck disable=SC2086
    (cd "$home/deb" && export APT_CONFIG="$home/apt/conf" && apt-get update -qq && apt-get download -qq $packages) || continue
    for package in "$home"/deb/*.deb; do dpkg-deb -x "$package" "$home/x"; done
    "$home/x/usr/sbin/dockerd" --version && "$home/x/usr/libexec/docker/cli-plugins/docker-buildx" version && return
  done
  die "no engine of Debian's runs here"
}

finish() {
  local code=$?
  if [ -n "${engine:-}" ]; then
    kill "$engine" 2>/dev/null || true
    for _ in $(seq 120); do kill -0 "$engine" 2>/dev/null || break; sleep 0.5; done
    [ -n "${ENGINE_HOME:-}" ] || rm -rf "$home"
    say "ended the engine that was started"
  fi
  exit $code
}

pinned() { sed -n "s/.*\${$1:-\(.*\)}/\1/p" compose.yaml; }
there() { docker image inspect "$1" >/dev/null 2>&1 || timeout 300 docker pull --quiet "$1" >/dev/null 2>&1; }
from_debian() { # SUITE PACKAGES TAG: the packages on Debian's smallest system
  docker image inspect "$3" >/dev/null 2>&1 && return
  command -v mmdebstrap >/dev/null || apt-get install -y -qq --no-install-recommends mmdebstrap >/dev/null
  TMPDIR=/dev/shm mmdebstrap --quiet --variant=minbase --include="$2" --dpkgopt=force-unsafe-io \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --aptopt='Acquire::Languages "none"' "$1" - "$mirror" |
    docker import --change 'ENV LANG=C.UTF-8' - "$3" >/dev/null
}

base_images() {
  : "${PYTHON_IMAGE:=$(pinned PYTHON_IMAGE)}" "${REDIS_IMAGE:=$(pinned REDIS_IMAGE)}"
  if ! there "$PYTHON_IMAGE"; then
    from_debian bookworm ca-certificates,tzdata,netbase,python3,python3-venv ada-standin/python:3.11
    say "base image: Debian's Python in the place of $PYTHON_IMAGE"
    PYTHON_IMAGE=ada-standin/python:3.11
  fi
  if ! there "$REDIS_IMAGE"; then
    from_debian trixie redis-server ada-standin/debian-redis
    docker build --quiet --build-arg DEBIAN_REDIS=ada-standin/debian-redis --tag ada-standin/redis \
      --file tests/compose/redis_standin.Dockerfile tests/compose >/dev/null
    say "base image: Debian's Redis in the place of $REDIS_IMAGE"
    REDIS_IMAGE=ada-standin/redis
  fi
  export PYTHON_IMAGE REDIS_IMAGE
}

trap finish EXIT
if docker info >/dev/null 2>&1; then
  say "the Docker engine that answers here: $(docker version --format '{{.Server.Version}}')"
else
  home=${ENGINE_HOME:-$(mktemp -d /var/tmp/ada-engine.XXXX)} # short: a socket's path takes 107 characters
  mkdir -p "$home"
  start_engine
  say "a Docker engine of our own: $(docker version --format '{{.Server.Version}}'), Compose $(docker compose version --short)"
fi
base_images
"$@"
