"""Which pages of other origins may ask Ada: those that ADA_CORS_ORIGINS names, none by default.

What a page may ask is its key's matter. Credentials of the browser's own, cookies, are never allowed.
"""

import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from services.orchestrator.http.errors import openai_error

EVERY = "*"
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE")
# What a page may send, beside whatever else it asks for: clients add headers of their own (x-stainless-os).
SENT = ("Accept", "Authorization", "Content-Type", "Idempotency-Key", "If-Match", "X-Request-Id")
_LIMITS = [f"x-ratelimit-{about}-{what}" for about in ("limit", "remaining", "reset")
           for what in ("requests", "tokens")]  # fmt: skip
READ = (
    "AI-Disclosure",
    "X-Request-Id",
    "Retry-After",
    "ETag",
    "WWW-Authenticate",
    "Content-Disposition",
    *_LIMITS,
)
_NAME = re.compile(r"[A-Za-z0-9-]{1,100}")  # of a header
_MOST_NAMES = 100
_HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+")  # the second: an IPv6 address, which has brackets around it
_DEFAULT_PORTS = {"http": 80, "https": 443}


def origin_of(text: str) -> str:
    """An origin as browsers write it. Raises ValueError, saying what is wrong."""
    if text == EVERY:
        return text
    found = urlsplit(text)
    host, port = found.hostname or "", found.port  # raises ValueError for a port that is none
    is_bare = not (found.path.strip("/") or found.query or found.fragment or "@" in found.netloc)
    is_host = _HOST.fullmatch(host) if found.scheme != "file" else not host
    if not (found.scheme and "://" in text and is_bare and is_host):
        raise ValueError(
            f"{text!r} is no origin: write https://chat.example, with a port if it has one, or *"
        )
    shown = f":{port}" if port and port != _DEFAULT_PORTS.get(found.scheme) else ""
    return f"{found.scheme}://{f'[{host}]' if ':' in host else host}{shown}"


class Origins:
    """The origins that are allowed."""

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        self.allowed = frozenset(allowed)

    def __bool__(self) -> bool:
        return bool(self.allowed)

    def names(self, origin: str | None) -> bool:
        """Whether this origin is allowed by its name: that all are does not count."""
        return origin in self.allowed and origin != EVERY

    def headers(self, request: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """What an answer tells a browser that is made before there is an application."""
        if not self:
            return []
        origin = next((value.decode("latin-1") for name, value in request if name == b"origin"), None)
        told = [(b"vary", b"Origin")]
        if EVERY in self.allowed or self.names(origin):
            value = EVERY if EVERY in self.allowed else str(origin)
            told.append((b"access-control-allow-origin", value.encode("latin-1")))
            told.append((b"access-control-expose-headers", ", ".join(READ).encode()))
        return told


class CorsMiddleware(CORSMiddleware):
    """Starlette's, whose refusal has the shape of all errors here, and that lets a page send any header."""

    def __init__(self, app: ASGIApp, origins: Origins) -> None:
        super().__init__(
            app,
            allow_origins=origins.allowed,
            allow_methods=METHODS,
            allow_headers=["*"],
            allow_private_network=True,  # a page of a public site asks for a machine at home
            expose_headers=READ,
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """What a browser is told that asks whether a page may send a request."""
        answer = super().preflight_response(request_headers)
        if answer.status_code != 200:
            asked = f"{request_headers['access-control-request-method']} from {request_headers['origin']}"
            why = f"a page may not send {asked[:200]!r}: ADA_CORS_ORIGINS names the origins that may"
            refusal = openai_error(403, why, "invalid_request_error", code="origin_not_allowed")
            refusal.headers["Vary"] = answer.headers["Vary"]
            return refusal
        names = [*SENT, *_names(request_headers.get("access-control-request-headers", ""))]
        answer.headers["Access-Control-Allow-Headers"] = ", ".join(names)
        return answer


def _names(asked: str) -> list[str]:
    """The headers that a page would like to send, those that have a name."""
    known = {name.casefold() for name in SENT}
    names = dict.fromkeys(name.strip() for name in asked.split(",", _MOST_NAMES)[:_MOST_NAMES])
    return [name for name in names if _NAME.fullmatch(name) and name.casefold() not in known]
