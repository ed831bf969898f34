"""`.env`, and the files from which the containers read their secrets."""

import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from services.api_keys import KEYS_FILE
from services.errors import ConfigError
from services.files import write_atomic

ENV = Path(".env")
SECRETS = Path("secrets")
SELINUX = Path("/sys/fs/selinux/enforce")
RANDOM = ("REDIS_PASSWORD", "QDRANT_API_KEY", "QDRANT_READ_ONLY_API_KEY", "MODEL_API_KEY")


def read_env() -> dict[str, str]:
    """The values in .env as Compose reads them; empty when there is no such file."""
    return {name: value for line in _lines() for name, value in [_assigned(line)] if name}


def write_env(added: Mapping[str, str]) -> None:
    """Set values in .env, readable by its owner only; all other lines are unchanged."""
    lines = [line for line in _lines() if _assigned(line)[0] not in added]
    lines = lines or ["# Every setting: .env.example"]
    lines += [f"{name}={value}" for name, value in added.items()]
    _write(ENV, "\n".join(lines) + "\n", 0o600)


def _lines() -> list[str]:
    if not ENV.exists():
        return []
    if not ENV.is_file():
        raise ConfigError(f"{ENV} is not a file: move it away and run `make init`")
    text = ENV.read_bytes().decode("utf-8", errors="surrogateescape")
    return text.removesuffix("\n").split("\n") if text else []


def _assigned(line: str) -> tuple[str, str]:
    """Name and value of a line NAME=value, with or without `export`, quotes and a trailing comment."""
    match = re.fullmatch(r"\s*(?:export\s+)?([A-Za-z_]\w*)\s*=\s*(.*?)\s*", line)
    if not match:
        return "", ""
    quoted = re.match(r"""(["'])(.*?)\1\s*(?:#.*)?$""", match[2])
    return match[1], quoted[2] if quoted else re.sub(r"(^|\s+)#.*", "", match[2])


def write_secrets(values: Mapping[str, str], selinux: Path = SELINUX) -> None:
    """Write the files that containers read, from the values in .env.

    Each container runs as its own user, so the files are readable by all, and the folder by its owner only.
    """
    for name in RANDOM:
        if not re.fullmatch("[ -~]+", values[name]):
            raise ConfigError(f"{name} in .env is not plain ASCII: delete its line and run `make init`")
    make_secrets_folder()
    password = hashlib.sha256(values["REDIS_PASSWORD"].encode()).hexdigest()
    contents = {name: values[name] for name in RANDOM} | {
        "redis.acl": f"user default on #{password} ~* &* +@all\nuser health on nopass ~ada:health +set\n",
        "qdrant.yaml": "service:\n"
        f"  api_key: {json.dumps(values['QDRANT_API_KEY'])}\n"
        f"  read_only_api_key: {json.dumps(values['QDRANT_READ_ONLY_API_KEY'])}\n",
    }
    for name, content in contents.items():
        path = SECRETS / name
        if not path.exists() or path.read_text(encoding="utf-8") != content:
            _write(path, content, 0o444)
    if selinux.exists() and (chcon := shutil.which("chcon")):
        # Compose labels bind mounts that have `selinux: z`, but not secrets.
        subprocess.run([chcon, "--recursive", "--type", "container_file_t", SECRETS], check=False)


def make_secrets_folder() -> None:
    """Make secrets/, and in it the folder of the API keys, which the orchestrator's container mounts.

    The folder is mounted, because a file mounted by itself would keep its old content once it is replaced.
    """
    SECRETS.mkdir(exist_ok=True)
    SECRETS.chmod(0o700)
    KEYS_FILE.parent.mkdir(exist_ok=True)
    KEYS_FILE.parent.chmod(0o755)


def _write(path: Path, content: str, mode: int) -> None:
    """Write a file atomically, at no time with more permissions than `mode`."""
    path = path.resolve()  # a link stays a link
    try:
        write_atomic(path, content.encode("utf-8", errors="surrogateescape"), mode=mode)
    except OSError as error:
        raise ConfigError(f"{path} can't be written: {error.strerror}") from None


def check_env() -> dict[str, str]:
    """Return the values in .env and update their files. Raises ConfigError naming a missing value."""
    if not ENV.exists():
        raise ConfigError("there is no .env: run `make init`")
    values = read_env()
    for name in RANDOM:
        if not values.get(name):
            raise ConfigError(f"{name} in .env is missing or empty: run `make init`, which fills in the rest")
    write_secrets(values)
    return values
