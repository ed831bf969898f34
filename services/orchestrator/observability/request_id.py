"""The id of a request, on its whole way: in the log, to vLLM, to the worker, and back in `X-Request-Id`."""

import re
import uuid

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.tracing import request_id as request_id

HEADER = b"x-request-id"
_GOOD = re.compile(rb"[A-Za-z0-9._-]{1,128}")


class RequestIdMiddleware:
    """Takes the client's id where it is a good one, else makes one. Stands outside of everything."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        name = _given(scope) or f"req-{uuid.uuid4().hex}"
        scope.setdefault("state", {})["request_id"] = name
        header = (HEADER, name.encode())

        async def naming(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), header]
            await send(message)

        token = request_id.set(name)
        try:
            await self._app(scope, receive, naming)
        finally:
            request_id.reset(token)


def _given(scope: Scope) -> str:
    """The client's own, if it is one that may stand in logs and headers."""
    given: bytes = next((value for name, value in scope["headers"] if name == HEADER), b"")
    return given.decode() if _GOOD.fullmatch(given) else ""
