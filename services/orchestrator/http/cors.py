"""CORS: pages of the origins in ADA_CORS_ORIGINS may send requests; none may by default.

A page still needs a key. The browser's own credentials, cookies, are never allowed.
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
# Always allowed; so are the other headers that a page asks for: clients add their own (x-stainless-os).
REQUEST_HEADERS = ("Accept", "Authorization", "Content-Type", "Idempotency-Key", "If-Match", "X-Request-Id")
_LIMITS = [
    f"x-ratelimit-{value}-{unit}"
    for value in ("limit", "remaining", "reset")
    for unit in ("requests", "tokens")
]
EXPOSED_HEADERS = (
    "AI-Disclosure",
    "X-Request-Id",
    "Retry-After",
    "ETag",
    "WWW-Authenticate",
    "Content-Disposition",
    *_LIMITS,
)
_HEADER_NAME = re.compile(r"[A-Za-z0-9-]{1,100}")
_MAX_NAMES = 100
_HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+")  # the second: an IPv6 address, without its brackets
_DEFAULT_PORTS = {"http": 80, "https": 443}


def origin_of(text: str) -> str:
    """An origin as browsers write it. Raises ValueError with a message for the user."""
    if text == EVERY:
        return text
    parts = urlsplit(text)
    host, port = parts.hostname or "", parts.port  # raises ValueError for an invalid port
    is_bare = not (parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc)
    is_host = _HOST.fullmatch(host) if parts.scheme != "file" else not host
    if not (parts.scheme and "://" in text and is_bare and is_host):
        raise ValueError(
            f"{text!r} is not an origin: write https://chat.example, with a port if it has one, or *"
        )
    suffix = f":{port}" if port and port != _DEFAULT_PORTS.get(parts.scheme) else ""
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{suffix}"


class Origins:
    """The allowed origins."""

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        self.allowed = frozenset(allowed)

    def __bool__(self) -> bool:
        return bool(self.allowed)

    def names(self, origin: str | None) -> bool:
        """Whether this origin is allowed by name; `*` does not count."""
        return origin in self.allowed and origin != EVERY

    def headers(self, request: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """The CORS headers of an answer that no application makes. `request` are the request's headers."""
        if not self:
            return []
        origin = next((value.decode("latin-1") for name, value in request if name == b"origin"), None)
        headers = [(b"vary", b"Origin")]
        if EVERY in self.allowed or self.names(origin):
            value = EVERY if EVERY in self.allowed else str(origin)
            headers.append((b"access-control-allow-origin", value.encode("latin-1")))
            headers.append((b"access-control-expose-headers", ", ".join(EXPOSED_HEADERS).encode()))
        return headers


class CorsMiddleware(CORSMiddleware):
    """Starlette's middleware, with refusals in the shape of every error here; a page may send any header."""

    def __init__(self, app: ASGIApp, origins: Origins) -> None:
        super().__init__(
            app,
            allow_origins=origins.allowed,
            allow_methods=METHODS,
            allow_headers=["*"],
            allow_private_network=True,  # a page of a public site may use a machine at home
            expose_headers=EXPOSED_HEADERS,
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """The answer to a browser's preflight request."""
        answer = super().preflight_response(request_headers)
        if answer.status_code != 200:
            request = f"{request_headers['access-control-request-method']} from {request_headers['origin']}"
            reason = f"a page may not send {request[:200]!r}: ADA_CORS_ORIGINS names the origins that may"
            refusal = openai_error(403, reason, "invalid_request_error", code="origin_not_allowed")
            refusal.headers["Vary"] = answer.headers["Vary"]
            return refusal
        names = [*REQUEST_HEADERS, *_header_names(request_headers.get("access-control-request-headers", ""))]
        answer.headers["Access-Control-Allow-Headers"] = ", ".join(names)
        return answer


def _header_names(value: str) -> list[str]:
    """The valid names in Access-Control-Request-Headers that are not allowed anyway."""
    allowed = {name.casefold() for name in REQUEST_HEADERS}
    names = dict.fromkeys(name.strip() for name in value.split(",", _MAX_NAMES)[:_MAX_NAMES])
    return [name for name in names if _HEADER_NAME.fullmatch(name) and name.casefold() not in allowed]
