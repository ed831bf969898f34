"""The Docker engine of this machine: its capabilities, and docker compose commands."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from services.deployment.environment import read_env
from services.errors import ConfigError

GPU_FILES, CPU_FILES = "compose.yaml", "compose.yaml:docker/compose.cpu.yaml"
OLDEST_ENGINE, OLDEST_COMPOSE = (25, 0), (2, 24)  # start_interval; !reset


@dataclass(frozen=True)
class DockerEngine:
    """Properties that the engine reports."""

    root: Path
    has_nvidia: bool


def find_engine() -> DockerEngine:
    """Find the running engine. Raises ConfigError when there is none, it may not be used or is too old."""
    if not shutil.which("docker"):
        raise ConfigError(
            "Docker is not installed here: install Docker Engine with Compose v2, "
            "or use `make serve`, which needs neither"
        )
    answer = run("docker", "info", "--format", "{{json .}}")
    info = json.loads(answer.stdout) if answer.stdout.startswith("{") else {}
    if answer.returncode or info.get("ServerErrors"):
        _refuse_engine(answer.stderr + " ".join(info.get("ServerErrors") or []))
    _check_version("Docker Engine", str(info.get("ServerVersion", "")), OLDEST_ENGINE)
    plugin = run("docker", "compose", "version", "--short")
    if plugin.returncode:
        raise ConfigError("Docker has no Compose v2: install the package docker-compose-plugin")
    _check_version("Docker Compose", plugin.stdout.strip(), OLDEST_COMPOSE)
    hook = shutil.which("nvidia-container-runtime-hook")
    return DockerEngine(Path(info["DockerRootDir"]), "nvidia" in info["Runtimes"] or hook is not None)


def _refuse_engine(reason: str) -> None:
    if "permission denied" in reason.lower():
        raise ConfigError(
            "no permission to ask the Docker engine: add yourself to its group "
            "(`sudo usermod -aG docker $USER`) and log in again"
        )
    last = reason.strip().splitlines()[-1] if reason.strip() else "no reason given"
    raise ConfigError(f"the Docker engine does not answer ({last}): start it (`sudo systemctl start docker`)")


def _check_version(what: str, version: str, oldest: tuple[int, int]) -> None:
    match = re.match(r"v?(\d+)\.(\d+)", version)
    if not match or (int(match[1]), int(match[2])) < oldest:
        raise ConfigError(
            f"{what} here is {version or 'unknown'}: {oldest[0]}.{oldest[1]} or later is needed"
        )


def engine_or_none() -> DockerEngine | None:
    """The running engine, or None."""
    try:
        return find_engine()
    except ConfigError:
        return None


def compose_files(engine: DockerEngine | None) -> str:
    """The compose files for this machine; a COMPOSE_FILE set by the user takes precedence."""
    own = os.environ.get("COMPOSE_FILE") or read_env().get("COMPOSE_FILE")
    if own and own not in (GPU_FILES, CPU_FILES):
        return own
    return GPU_FILES if engine and engine.has_nvidia else CPU_FILES


def compose(files: str, *arguments: str) -> int:
    """Run a docker compose command in the foreground and return its exit code."""
    return subprocess.run(["docker", "compose", *arguments], env=_environment(files), check=False).returncode


def compose_output(files: str, *arguments: str) -> str:
    """Run a docker compose command and return its output."""
    return run("docker", "compose", *arguments, env=_environment(files)).stdout


def _environment(files: str) -> dict[str, str]:
    return {**os.environ, "COMPOSE_FILE": files}


def run(*command: str, env: Mapping[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end and capture its output."""
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)
