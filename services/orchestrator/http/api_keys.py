"""Who a request's key names. The file of keys may change at any time; nothing needs to be started again."""

import asyncio
import hmac
import logging
import time
from dataclasses import dataclass
from pathlib import Path

from anyio import CapacityLimiter
from anyio.to_thread import run_sync

from services.api_keys import ID_LENGTH, LOCAL, Key, digest, read_keys
from services.diary.ledger.ledger import Ledger
from services.errors import ConfigError, Unauthorized

log = logging.getLogger("ada.orchestrator")
LOOKED_EVERY_S = 1.0
PATIENCE_S = 1.0  # with the file's disk; then the keys that were read last go on
# The owner of everything that is asked and written without keys. A key may name it, to take that diary over.
_HOW = "send `Authorization: Bearer <key>`; whoever keeps Ada makes one by `make key OWNER=…`"
_State = tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. A limit of None is the default's, 0 is none."""

    owner: str
    key_id: str
    requests_a_minute: int | None = None
    tokens_a_minute: int | None = None


WITHOUT_KEYS = Caller(LOCAL, LOCAL)


class KeyHistory:
    """Whether there ever were keys over a ledger. Then the loss of their file must not open it.

    A note beside SQLite's file says so; over any database, entries of somebody who can only have had a key.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._note = ledger.folder / "keys-in-use" if ledger.folder else None

    def had_keys(self) -> bool:
        """Whether there were keys. Raises DiaryUnavailable."""
        return bool(self._note and self._note.exists()) or self._ledger.has_other_owners(LOCAL)

    def note(self) -> None:
        """There are keys now."""
        if self._note and not self._note.exists():
            self._note.write_text("Ada had API keys over this ledger: docs/keys.md\n", encoding="utf-8")


class ApiKeyStore:
    """The keys in a file, followed as it changes.

    Without a file everybody is the one owner `local`, where `open_without_keys` allows it. A file that breaks
    or vanishes takes nothing back: the keys that were read last go on, so that nobody gets in by its loss.
    """

    def __init__(self, path: Path, *, open_without_keys: bool, history: KeyHistory | None = None) -> None:
        self._path = path
        self._history = history
        self._keys: dict[str, tuple[str, Caller]] | None = None if open_without_keys else {}
        self._timezones: dict[str, str] = {}
        self._look_at = 0.0
        self._looking: asyncio.Task[None] | None = None
        self._read: _State = ()  # of the file that was read last; None: there was none
        self.look()

    def timezone(self, owner: str) -> str | None:
        """An owner's, which the newest of their keys names that has one."""
        return self._timezones.get(owner)

    def caller(self, authorization: str | None) -> Caller:
        """Whom the header of a request names. Raises NotAllowed."""
        if self._keys is None:
            return WITHOUT_KEYS
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.casefold() != "bearer" or not (key := key.strip()):
            raise Unauthorized(f"no API key was sent: {_HOW}")
        told = digest(key)
        # Found by its id, which is no secret; then held against the whole digest in constant time.
        known = self._keys.get(told[:ID_LENGTH])
        if known is None or not hmac.compare_digest(known[0], told):
            raise Unauthorized("Incorrect API key provided: it is unknown here, or was revoked")
        return known[1]

    async def follow(self) -> None:
        """Look at the file again when it is time to. A disk that hangs holds up nobody for long.

        A thread looks, which is of this alone: those of slow requests may all be taken.
        """
        if (now := time.monotonic()) < self._look_at:
            return
        looking = self._looking = self._looking or asyncio.create_task(self._look_in_thread())
        done, _ = await asyncio.wait({looking}, timeout=PATIENCE_S)
        self._look_at = now + LOOKED_EVERY_S
        if done and self._looking is looking:
            self._looking = None
            looking.result()

    async def _look_in_thread(self) -> None:
        await run_sync(self.look, limiter=CapacityLimiter(1), abandon_on_cancel=True)

    def look(self) -> None:
        """Read the file if it is another than the last time."""
        state = _state(self._path)
        if state == self._read:
            return
        first, self._read = self._read == (), state
        try:
            keys = read_keys(self._path)
        except ConfigError as error:
            self._keys = self._keys or {}
            log.error("%s (%d keys that were read before go on)", error, len(self._keys))
            return
        if keys is not None:
            self._keys = {key.id: (key.sha256, _caller(key)) for key in keys}
            newest_last = sorted(keys, key=lambda key: key.created_at)
            self._timezones = {key.owner: key.timezone for key in newest_last if key.timezone}
            log.info("%d API keys in %s", len(keys), self._path)
            self._note()
        elif not first:
            log.error("%s is gone; the keys that were read before go on", self._path)

    def _note(self) -> None:
        try:
            if self._history is not None:
                self._history.note()
        except OSError as error:
            log.warning("that there are keys can't be noted beside the ledger: %s", error.strerror)


def _caller(key: Key) -> Caller:
    return Caller(key.owner, key.id, key.requests_a_minute, key.tokens_a_minute)


def _state(path: Path) -> _State:
    """What changes with the file; None without one. Permissions that are mended change its ctime."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        return (error.errno or 0,)
    return (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
