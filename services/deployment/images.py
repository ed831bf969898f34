"""`make pin-images`: pins the base images by digest, so that a tag that moves later has no effect."""

import re
from pathlib import Path

from services.deployment.engine import find_engine, run
from services.deployment.environment import read_env, write_env
from services.errors import ConfigError

COMPOSE = Path("compose.yaml")
_DEFAULT = re.compile(r"\$\{((?:PYTHON|VLLM|REDIS|QDRANT)_IMAGE):-([^}]+)\}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def pin_images() -> int:
    """Write NAME:TAG@DIGEST of each base image to .env, as its registry reports it. Raises ConfigError.

    All or none are written. Images that .env already pins are looked up again by their name and tag.
    """
    find_engine()
    own = read_env()
    tags = {
        name: (own.get(name) or default).partition("@")[0]
        for name, default in _DEFAULT.findall(COMPOSE.read_text(encoding="utf-8"))
    }
    pinned = {name: f"{tag}@{_digest(tag)}" for name, tag in tags.items()}
    write_env(pinned)
    for name, image in pinned.items():
        print(f"{name}={image}")
    return 0


def _digest(tag: str) -> str:
    answer = run("docker", "buildx", "imagetools", "inspect", tag, "--format", "{{.Manifest.Digest}}")
    digest = answer.stdout.strip()
    if answer.returncode or not _DIGEST.fullmatch(digest):
        lines = (answer.stderr or answer.stdout).strip().splitlines() or ["no digest"]
        raise ConfigError(f"{tag}: its registry gives no digest ({lines[-1]}); nothing was written")
    return digest
