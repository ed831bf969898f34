"""The file of API keys: who may ask Ada, whose diary they have, and how much they may ask.

    {"keys": [{"sha256": "…", "owner": "drew", "created_at": "2026-11-23T01:20:00Z",
               "requests_a_minute": 60, "tokens_a_minute": null, "timezone": "Pacific/Auckland"}]}

Written by `make key` with the standard library alone, read by the orchestrator. It holds no key, only its
SHA-256: a key is 32 random bytes, which nobody finds by trying, so a slow hash, made for passwords, would
cost each request its time and protect nothing more. A limit of null is the default's, 0 is none.
A time zone is the owner's, and of several that of the newest key; without one the deployment's counts.
"""

import hashlib
import json
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from services.errors import ConfigError, FieldError
from services.files import lock_descriptor, write_atomic
from services.local_time import read_zone

KEYS_FILE = Path("secrets/keys/keys.json")
LOCAL = "local"  # the one owner while there are no keys
ID_LENGTH = 12
_DIGEST = re.compile(r"[0-9a-f]{64}")
_ID = re.compile(rf"[0-9a-f]{{{ID_LENGTH}}}")
_OWNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", re.ASCII)
MOST = 10**9 - 1  # requests or tokens a minute
MOST_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Key:
    """One key, as the file knows it."""

    sha256: str
    owner: str
    created_at: str
    requests_a_minute: int | None = None
    tokens_a_minute: int | None = None
    timezone: str | None = None

    @property
    def id(self) -> str:
        """What the key is called; it tells nothing about the key."""
        return self.sha256[:ID_LENGTH]


def digest(key: str) -> str:
    """What the file holds of a key."""
    return hashlib.sha256(key.encode(errors="replace")).hexdigest()


def read_keys(path: Path) -> list[Key] | None:
    """All keys, or None when there is no such file. Raises ConfigError with the place of what is wrong."""
    try:
        content = json.loads(_content(path).decode())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise _broken(path, f"byte {error.start} is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise _broken(path, f"line {error.lineno}, column {error.colno}: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise _broken(path, str(error)) from None
    return _keys(path, content)


def _content(path: Path) -> bytes:
    """What a regular file holds. Another kind of file may never end, or wait for whoever writes it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise _broken(path, "it is no regular file")
        if about.st_size > MOST_BYTES:
            raise _broken(path, f"it is larger than {MOST_BYTES >> 20} MiB")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(descriptor)


def add_key(
    path: Path,
    owner: str,
    requests: int | None,
    tokens: int | None,
    mode: int,
    timezone: str | None = None,
) -> tuple[str, Key]:
    """A new key of an owner's: what to ask with, which is kept nowhere, and what the file holds of it.

    `mode` is the file's. Raises FieldError or ConfigError.
    """
    _check_owner(owner)
    _check_timezone(timezone)
    key = f"ada-{secrets.token_urlsafe(32)}"
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    made = Key(digest(key), owner, now, requests, tokens, timezone)
    with _alone(path):
        _replace(path, [*(read_keys(path) or []), made], mode)
    return key, made


def revoke_keys(path: Path, whose: str, mode: int) -> list[Key]:
    """Take away the key with this id, or all keys of this owner. Raises FieldError when there is none."""
    with _alone(path):
        keys = read_keys(path) or []
        revoked = [key for key in keys if whose in (key.id, key.owner)]
        if not revoked:
            raise FieldError(
                f"REVOKE is {whose!r}: no key and no owner of one; `make key` lists them", "REVOKE"
            )
        _replace(path, [key for key in keys if key not in revoked], mode)
    return revoked


def _check_owner(owner: str) -> None:
    if not _OWNER.fullmatch(owner) or _ID.fullmatch(owner):
        raise FieldError(
            f"OWNER is {owner!r}: up to 64 letters, digits, '.', '_', '@' and '-' are needed, "
            "and nothing that looks like the id of a key",
            "OWNER",
        )


def _check_timezone(name: str | None) -> None:
    try:
        if name is not None:
            read_zone(name)
    except ValueError as error:
        raise FieldError(f"TIMEZONE is wrong: {error}", "TIMEZONE") from None


def _keys(path: Path, content: object) -> list[Key]:
    if not (isinstance(content, dict) and content.keys() == {"keys"} and isinstance(content["keys"], list)):
        raise _broken(path, 'it is not {"keys": […]}')
    keys = [_key(path, index, item) for index, item in enumerate(content["keys"])]
    if len({key.id for key in keys}) != len(keys):
        raise _broken(path, "the same key is there twice")
    return keys


def _key(path: Path, index: int, content: object) -> Key:
    where = f"keys[{index}]"
    if not isinstance(content, dict):
        raise _broken(path, f"{where} is no object")
    if unknown := content.keys() - {field.name for field in fields(Key)}:
        raise _broken(path, f"{where} has an unknown field {min(unknown)!r}")
    for name, pattern in (("sha256", _DIGEST), ("owner", _OWNER), ("created_at", re.compile(".+"))):
        if not isinstance(content.get(name), str) or not pattern.fullmatch(content[name]):
            raise _broken(path, f"{where}.{name} is missing or not what it must be")
    for name in ("requests_a_minute", "tokens_a_minute"):
        limit = content.get(name)
        if limit is not None and (type(limit) is not int or not 0 <= limit <= MOST):
            raise _broken(path, f"{where}.{name} is neither null nor a whole number from 0 to {MOST}")
    timezone = content.get("timezone")
    try:
        if timezone is not None:
            read_zone(timezone if isinstance(timezone, str) else "")
    except ValueError as error:
        raise _broken(path, f"{where}.timezone: {error}") from None
    return Key(**content)


def _broken(path: Path, what: str) -> ConfigError:
    return ConfigError(f"{path}: {what}: mend it, or move it away and make keys anew by `make key OWNER=…`")


def _written(key: Key) -> dict[str, object]:
    """As the file has it. What an older Ada does not know is written only where it is used."""
    fields = asdict(key)
    return fields if key.timezone else {name: fields[name] for name in fields if name != "timezone"}


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One command at a time; the lock is the folder's, because the file itself is replaced."""
    try:
        folder = os.open(path.parent, os.O_RDONLY)
    except OSError as error:
        raise ConfigError(f"{path.parent}: {error.strerror}") from None
    try:
        lock_descriptor(folder, wait=True)
        yield
    finally:
        os.close(folder)


def _replace(path: Path, keys: list[Key], mode: int) -> None:
    """The whole file or none of it, also when the power fails; who reads meanwhile sees the one before."""
    text = json.dumps({"keys": [_written(key) for key in keys]}, indent=1) + "\n"
    try:
        write_atomic(path, text, mode=mode)
    except OSError as error:
        raise ConfigError(f"{path} can't be written: {error.strerror}") from None
