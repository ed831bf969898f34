"""Access control of the model server: a middleware in vLLM's process for every route but /health.

vLLM's `--api-key` guards `/v1` and a few more; `/tokenize`, `/metrics` and `/invocations`, which generates,
stay open. A web page whose host name resolves to this machine (DNS rebinding) is rejected by its `Host`.
"""

import hmac
import json
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from pathlib import Path
from typing import Any

from services.model.settings import API_KEY, HOST, SECRETS, api_key
from services.urls import is_loopback

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]
OPEN = "/health"  # for supervisors and container health checks


class Guard:
    """ASGI middleware. vLLM constructs it without arguments, so its settings come from the environment.

    Without a key, keys are not checked. `Host` is checked on loopback only, where its values are certain.
    """

    def __init__(
        self, app: App, environment: Mapping[str, str] = os.environ, secrets: Path = SECRETS
    ) -> None:
        self._app = app
        self._key = api_key(environment, secrets).encode()
        self._on_loopback = is_loopback(f"//{_bracketed(environment.get(HOST, '127.0.0.1'))}")

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass allowed requests on to vLLM."""
        if scope["type"] not in ("http", "websocket") or scope["path"] == OPEN:
            await self._app(scope, receive, send)
        elif why := self._refusal(scope["headers"]):
            await _refuse(scope, send, *why)
        else:
            await self._app(scope, receive, send)

    def _refusal(self, headers: Iterable[tuple[bytes, bytes]]) -> tuple[int, str] | None:
        given = dict(headers)
        host = given.get(b"host", b"").decode("latin-1")
        if self._on_loopback and not is_loopback(f"//{host}"):
            return 403, "this model server answers its own machine alone"
        scheme, _, key = given.get(b"authorization", b"").partition(b" ")
        if self._key and not (scheme.lower() == b"bearer" and hmac.compare_digest(key.strip(), self._key)):
            return 401, f"this model server asks for the key in {API_KEY}"
        return None


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


async def _refuse(scope: Message, send: Send, status: int, why: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": why})
        return
    error = {"message": why, "type": "invalid_request_error", "param": None, "code": None}
    body = json.dumps({"error": error}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
