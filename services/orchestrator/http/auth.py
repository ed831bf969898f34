"""Who asks, and whose diary it is about. Every request passes here before anything else of it is read."""

from typing import Any, cast

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from services.errors import AdaError, InvalidRequest
from services.orchestrator.http.api_keys import WITHOUT_KEYS, Caller
from services.orchestrator.http.cors import Origins
from services.orchestrator.http.docs import DOCUMENTS
from services.orchestrator.http.errors import describe, headers
from services.orchestrator.http.loopback_guard import check_loopback_origin

# All that is answered to who has no key. A route that is added needs one, because it is not in here.
OPEN = frozenset({"/health", "/healthz", "/readyz", "/metrics"}) | DOCUMENTS
_CALLER = "ada.caller"
_SCHEME = "key"


class KeyMiddleware:
    """Lets in who has a key, where there are keys. Stands before the routes: none of them can forget it."""

    def __init__(self, app: ASGIApp, origins: Origins) -> None:
        self._app = app
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan" and scope["path"] not in OPEN:
            try:
                await self._let_in(scope)
            except AdaError as error:
                status, body = describe(error)
                await JSONResponse(body, status, headers(error))(scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _let_in(self, scope: Scope) -> None:
        sent, keys = Headers(scope=scope), scope["app"].state.ada.keys
        await keys.follow()
        scope[_CALLER] = keys.caller(sent.get("authorization"))
        if scope[_CALLER] is WITHOUT_KEYS:
            check_loopback_origin(sent, self._origins)
        if sent.get("upgrade", "").casefold() == "websocket":
            raise InvalidRequest("Ada speaks no WebSocket: ask over HTTP, with `stream`", "Upgrade")


def caller_of(request: Request) -> Caller:
    """Who asks. On routes that are open to all there is nobody, which is a KeyError."""
    return cast(Caller, request.scope[_CALLER])


def describe_keys(app: FastAPI) -> None:
    """Have OpenAPI tell which routes ask for a key: all that are not open."""
    describe_app = app.openapi

    def openapi() -> dict[str, Any]:
        told = describe_app()
        schemes = told.setdefault("components", {}).setdefault("securitySchemes", {})
        schemes[_SCHEME] = {"type": "http", "scheme": "bearer", "description": "of `make key OWNER=…`"}
        for path in told["paths"].keys() - OPEN:
            for route in told["paths"][path].values():
                route["security"] = [{_SCHEME: []}]
        return told

    app.openapi = openapi  # type: ignore[method-assign]
