"""The request's id: in every log line, on the way to vLLM and to the worker, and back in `X-Request-Id`."""

import re
import uuid

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.tracing import request_id

HEADER = b"x-request-id"
_SAFE = re.compile(rb"[A-Za-z0-9._-]{1,128}")


class RequestIdMiddleware:
    """Takes the client's id where it is safe, else makes one. The outermost middleware, for HTTP only."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = _client_id(scope) or f"req-{uuid.uuid4().hex}"
        scope.setdefault("state", {})["request_id"] = name
        header = (HEADER, name.encode())

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), header]
            await send(message)

        token = request_id.set(name)
        try:
            await self._app(scope, receive, send_with_id)
        finally:
            request_id.reset(token)


def _client_id(scope: Scope) -> str:
    """The id that the client sent, if it is safe in logs and headers; else empty."""
    value: bytes = next((value for name, value in scope["headers"] if name == HEADER), b"")
    return value.decode() if _SAFE.fullmatch(value) else ""
