"""Authentication: the API keys, and the guard that serves this machine alone where there are none.

Every request passes KeyMiddleware before anything else of it is read. The file of keys may change at any
time; no restart is needed.
"""

import asyncio
import hmac
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import Request
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from services.api_keys import ID_LENGTH, LOCAL, Key, digest, read_keys
from services.diary.ledger.ledger import Ledger
from services.errors import AdaError, ConfigError, InvalidRequest, Unauthorized
from services.orchestrator.http.cors import Origins
from services.orchestrator.http.docs import DOCS_PATHS
from services.orchestrator.http.errors import error_headers, error_response
from services.urls import is_loopback

log = logging.getLogger("ada.orchestrator")
# The only paths that are served without a key. A new route is closed until its path is added here.
PUBLIC_PATHS = frozenset({"/health", "/healthz", "/readyz", "/metrics"}) | DOCS_PATHS
_CALLER = "ada.caller"  # where the ASGI scope holds the caller
_REMEDY = "send `Authorization: Bearer <key>`; whoever runs Ada makes one by `make key OWNER=…`"
Fingerprint = tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class Caller:
    """The owner and the key of a request. A limit of None is the default's; 0 is no limit."""

    owner: str
    key_id: str
    requests_a_minute: int | None = None
    tokens_a_minute: int | None = None


# Without keys every request is this caller's. A key may name the owner LOCAL, to take that diary over.
WITHOUT_KEYS = Caller(LOCAL, LOCAL)


class KeyMiddleware:
    """Refuses requests without a valid key, where there are keys: before routing, so no route omits it."""

    def __init__(self, app: ASGIApp, origins: Origins) -> None:
        self._app = app
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan" and scope["path"] not in PUBLIC_PATHS:
            try:
                await self._authenticate(scope)
            except AdaError as error:
                status, body = error_response(error)
                await JSONResponse(body, status, error_headers(error))(scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _authenticate(self, scope: Scope) -> None:
        headers, api_keys = Headers(scope=scope), scope["app"].state.ada.api_keys
        await api_keys.refresh()
        scope[_CALLER] = api_keys.caller(headers.get("authorization"))
        if scope[_CALLER] is WITHOUT_KEYS:
            check_loopback_origin(headers, self._origins)
        if headers.get("upgrade", "").casefold() == "websocket":
            raise InvalidRequest(
                "WebSockets are not supported: send an HTTP request, with `stream`", "Upgrade"
            )


def caller_of(request: Request) -> Caller:
    """The caller of a request. Raises KeyError on public paths, which have none."""
    return cast(Caller, request.scope[_CALLER])


# --- keys ------------------------------------------------------------------------------------------


class KeyHistory:
    """Whether a ledger was ever used with API keys; then the loss of their file must not open it.

    A note beside SQLite's file records it. In any database, entries of an owner other than `local` prove it:
    only a key can have named that owner.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._note = ledger.folder / "keys-in-use" if ledger.folder else None

    def had_keys(self) -> bool:
        """Whether there ever were keys. Raises DiaryUnavailable."""
        return bool(self._note and self._note.exists()) or self._ledger.has_other_owners(LOCAL)

    def record(self) -> None:
        """Record that there are keys now."""
        if self._note and not self._note.exists():
            self._note.write_text("Ada had API keys over this ledger: docs/keys.md\n", encoding="utf-8")


def file_fingerprint(path: Path) -> Fingerprint:
    """A value that changes with the file; None without one. A change of permissions changes its ctime."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        return (error.errno or 0,)
    return (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


class ApiKeyStore:
    """The keys in a file, read again when it changes.

    Without a file every request is the owner `local`'s, where `open_without_keys` allows it. A file that is
    damaged or vanishes revokes nothing: the keys that were read last stay valid, so that its loss lets
    nobody in. The file is looked at every `poll_s` seconds; a request waits at most `timeout_s` for its disk.
    """

    def __init__(
        self,
        path: Path,
        *,
        open_without_keys: bool,
        history: KeyHistory | None = None,
        poll_s: float = 1.0,
        timeout_s: float = 1.0,
        fingerprint: Callable[[Path], Fingerprint] = file_fingerprint,
    ) -> None:
        self._path = path
        self._history = history
        self._poll_s = poll_s
        self._timeout_s = timeout_s
        self._fingerprint = fingerprint
        # By key id: the digest of the whole key, and its caller. None: open to all.
        self._callers: dict[str, tuple[str, Caller]] | None = None if open_without_keys else {}
        self._timezones: dict[str, str] = {}
        self._next_poll = 0.0
        self._refresh: asyncio.Task[None] | None = None
        self._last: Fingerprint = ()  # of the file that was read last; None: there was no file
        self.reload()

    def timezone(self, owner: str) -> str | None:
        """An owner's time zone: that of the newest of their keys that names one."""
        return self._timezones.get(owner)

    def caller(self, authorization: str | None) -> Caller:
        """The caller that an Authorization header names. Raises Unauthorized."""
        if self._callers is None:
            return WITHOUT_KEYS
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.casefold() != "bearer" or not (key := key.strip()):
            raise Unauthorized(f"no API key was sent: {_REMEDY}")
        sha256 = digest(key)
        # Looked up by its id, which is no secret; then the whole digest is compared in constant time.
        entry = self._callers.get(sha256[:ID_LENGTH])
        if entry is None or not hmac.compare_digest(entry[0], sha256):
            raise Unauthorized("Incorrect API key provided: it is unknown here, or was revoked")
        return entry[1]

    async def refresh(self) -> None:
        """Read the file again if it has changed, at most once in `poll_s`. A hung disk delays nobody long.

        The thread is this store's own: slow requests may occupy all the others.
        """
        if (now := time.monotonic()) < self._next_poll:
            return
        refresh = self._refresh = self._refresh or asyncio.create_task(self._reload_in_thread())
        done, _ = await asyncio.wait({refresh}, timeout=self._timeout_s)
        self._next_poll = now + self._poll_s
        if done and self._refresh is refresh:
            self._refresh = None
            refresh.result()

    async def _reload_in_thread(self) -> None:
        await run_sync(self.reload, limiter=CapacityLimiter(1), abandon_on_cancel=True)

    def reload(self) -> None:
        """Read the file if it has changed since the last time."""
        fingerprint = self._fingerprint(self._path)
        if fingerprint == self._last:
            return
        is_first, self._last = self._last == (), fingerprint
        try:
            keys = read_keys(self._path)
        except ConfigError as error:
            self._callers = self._callers or {}
            log.error("%s (%d keys that were read before stay valid)", error, len(self._callers))
            return
        if keys is not None:
            self._callers = {key.id: (key.sha256, _caller(key)) for key in keys}
            newest_last = sorted(keys, key=lambda key: key.created_at)
            self._timezones = {key.owner: key.timezone for key in newest_last if key.timezone}
            log.info("%d API keys in %s", len(keys), self._path)
            self._record_keys()
        elif not is_first:
            log.error("%s is gone; the keys that were read before stay valid", self._path)

    def _record_keys(self) -> None:
        try:
            if self._history is not None:
                self._history.record()
        except OSError as error:
            log.warning("the use of keys can't be recorded beside the ledger: %s", error.strerror)


def _caller(key: Key) -> Caller:
    return Caller(key.owner, key.id, key.requests_a_minute, key.tokens_a_minute)


# --- without keys ----------------------------------------------------------------------------------

NO_ORIGINS = Origins()


def check_loopback_origin(headers: Headers, origins: Origins = NO_ORIGINS) -> None:
    """Raises Unauthorized for a request of another site's page, unless `origins` allows that site by name.

    Without keys only this machine is served, but its browser also runs pages of other sites. Such a request
    carries the page's `Origin`; or, when the page only loads or follows a link, `Sec-Fetch-Site: cross-site`;
    or the page's own name in `Host`, when that name is made to point to this machine (DNS rebinding). A page
    can change none of the three. A page that another program serves on another port of this machine may ask.
    """
    host, origin = headers.get("host"), headers.get("origin")
    if host and not is_loopback(f"//{host}"):
        raise _not_local(f"a request to the host {host[:100]!r}")
    if origins.names(origin):
        return
    if origin and not is_loopback(origin):
        raise _not_local(f"a page of {origin[:100]!r}")
    if not origin and headers.get("sec-fetch-site") == "cross-site":
        raise _not_local("a page of another site")


def _not_local(sender: str) -> Unauthorized:
    return Unauthorized(
        f"without API keys only this machine is served, and {sender} is not part of it: "
        "make a key by `make key OWNER=…`, and send it"
    )
