"""`make key`: manages the API keys. A running Ada reads the file again within about a second."""

import os
import re
import sys
from pathlib import Path

from services.api_keys import KEYS_FILE, LOCAL, MOST, Key, add_key, read_keys, revoke_keys
from services.deployment.environment import make_secrets_folder
from services.errors import ConfigError, FieldError

_WORDS = ("OWNER", "RPM", "TPM", "TIMEZONE", "REVOKE")


def key(*arguments: str) -> int:
    """Make a key, revoke some, or list all. Only a new key itself goes to stdout, so it can be piped."""
    given = _given(arguments)
    if "REVOKE" in given:
        return _revoke(given)
    if "OWNER" in given:
        return _make(given)
    if given:
        raise FieldError(f"{min(given)} is for a new key: add its owner, `make key OWNER=… {min(given)}=…`")
    return _list()


def _given(arguments: tuple[str, ...]) -> dict[str, str]:
    """The arguments, such as OWNER=drew; the Makefile passes empty ones, too."""
    words = dict(word.partition("=")[::2] for word in arguments)
    if unknown := words.keys() - set(_WORDS):
        raise FieldError(f"{min(unknown)} is unknown here: use OWNER=, RPM=, TPM=, TIMEZONE= or REVOKE=")
    return {name: value.strip() for name, value in words.items() if value.strip()}


def _make(given: dict[str, str]) -> int:
    path, mode = _writable_file()
    is_first = read_keys(path) is None
    limits = _limit(given, "RPM"), _limit(given, "TPM")
    secret, made = add_key(path, given["OWNER"], *limits, mode, given.get("TIMEZONE"))
    _tell(f"key {made.id} of {made.owner} ({_limits(made)}); it is shown only now and stored nowhere:")
    print(secret)
    if is_first and made.owner != LOCAL:
        _tell(f"this is the first key. A diary written without keys is `{LOCAL}`'s: make key OWNER={LOCAL}")
    return 0


def _revoke(given: dict[str, str]) -> int:
    if len(given) > 1:
        raise FieldError("REVOKE stands alone: `make key REVOKE=<id or owner>`")
    path, mode = _writable_file()
    for key_entry in revoke_keys(path, given["REVOKE"], mode):
        _tell(f"revoked: key {key_entry.id} of {key_entry.owner}")
    if not read_keys(path):
        back = f"end Ada, remove {path}, and start her with ADA_WITHOUT_KEYS=true"
        _tell(f"no key is left: nobody gets in. To go back to no keys at all, {back}")
    return 0


def _list() -> int:
    path = _path()
    keys = read_keys(path)
    if keys is None:
        _tell(f"there is no {path}: Ada serves this machine alone, as the one owner `local`")
    for key_entry in keys or []:  # a line each, without tabulate: only the standard library is here
        print(f"{key_entry.id}  {key_entry.owner:<20}  {key_entry.created_at}  {_limits(key_entry)}")
    return 0


def _limits(key_entry: Key) -> str:
    pairs = ((key_entry.requests_a_minute, "requests"), (key_entry.tokens_a_minute, "tokens"))
    own = [f"{limit or 'any'} {what} a minute" for limit, what in pairs if limit is not None]
    limits = ", ".join(own) or "the default limits"
    return f"{limits}, {key_entry.timezone}" if key_entry.timezone else limits


def _limit(given: dict[str, str], name: str) -> int | None:
    value = given.get(name)
    if value is None:
        return None
    if not re.fullmatch("[0-9]{1,9}", value):
        raise FieldError(f"{name} is {value!r}: a whole number up to {MOST} is needed; 0 is no limit", name)
    return int(value)


def _path() -> Path:
    return Path(os.environ.get("KEYS_FILE") or KEYS_FILE)


def _writable_file() -> tuple[Path, int]:
    """The keys' file, after making its folder, and its mode.

    In secrets/ it is readable by all, as a container runs as its own user, in a folder for its owner only.
    """
    path = _path()
    if path != KEYS_FILE:
        return path, 0o600
    try:
        make_secrets_folder()
    except OSError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}") from None
    return path, 0o444


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
