"""Errors in OpenAI's shape, {"error": {"message", "type", "param", "code"}}; translated only here."""

import json
import logging
import math
import uuid
from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from services.errors import (
    AdaError,
    ConfigError,
    DiaryUnavailable,
    EntryConflict,
    EntryRejected,
    FieldError,
    InvalidRequest,
    LedgerFull,
    ModelFaulty,
    ModelTimeout,
    ModelUnavailable,
    NotFound,
    NoVerdict,
    RateLimited,
    Unauthorized,
    UnknownRole,
    UnsupportedMediaType,
    UpstreamError,
)

log = logging.getLogger("ada.orchestrator")
CLIENT_GONE = 499  # nginx's status for a client that disconnected before it had its answer


class Error(BaseModel):
    """An error in OpenAI's shape."""

    message: str
    type: str
    param: str | None = Field(description="the field, parameter or header at fault")
    code: str | None


class ErrorAnswer(BaseModel):
    """The body of every error response."""

    error: Error


Responses = dict[int | str, dict[str, Any]]
_DESCRIPTIONS = {
    400: "the body or a parameter is invalid",
    401: "the API key is missing, unknown or revoked",
    404: "there is no such resource",
    408: "the body did not arrive in time",
    409: "the idempotency key was used for something else, or the entry has changed meanwhile",
    413: "the body is too large",
    415: "the body's content type is not JSON",
    422: "a field or parameter is invalid",
    429: "the key's limit is reached",
    500: "an internal error",
    503: "the diary, the model or the adapter is unavailable",
    507: "the disk is full; nothing of this request was written",
}


def failure_responses(*statuses: int) -> Responses:
    """The failures of a route, as FastAPI's `responses` takes them."""
    return {status: {"model": ErrorAnswer, "description": _DESCRIPTIONS[status]} for status in statuses}


COMMON_FAILURES = failure_responses(401, 429, 500, 503)  # every route of the diary
JSON_BODY_STATUSES = (400, 408, 413, 415, 422)  # every route that reads a JSON body


# error → (HTTP status, OpenAI's type, code)
_TABLE: dict[type[AdaError], tuple[int, str, str]] = {
    UnknownRole: (400, "invalid_request_error", "unknown_role"),
    EntryRejected: (422, "invalid_request_error", "entry_rejected"),
    EntryConflict: (409, "invalid_request_error", "conflict"),
    NotFound: (404, "invalid_request_error", "not_found"),
    FieldError: (422, "invalid_request_error", "invalid_value"),
    InvalidRequest: (400, "invalid_request_error", "invalid_value"),
    UnsupportedMediaType: (415, "invalid_request_error", "unsupported_media_type"),
    Unauthorized: (401, "invalid_request_error", "invalid_api_key"),
    RateLimited: (429, "rate_limit_error", "rate_limit_exceeded"),
    ConfigError: (503, "server_error", "not_configured"),
    LedgerFull: (507, "server_error", "ledger_full"),
    DiaryUnavailable: (503, "server_error", "diary_unavailable"),
    ModelUnavailable: (503, "server_error", "model_unavailable"),
    ModelTimeout: (504, "server_error", "model_timeout"),
    ModelFaulty: (502, "server_error", "model_faulty"),
    NoVerdict: (503, "server_error", "model_unavailable"),
}


def openai_error(
    status: int, message: str, kind: str, *, param: str | None = None, code: str | None = None
) -> JSONResponse:
    """A response with OpenAI's error body."""
    error = {"message": message, "type": kind, "param": param, "code": code}
    return JSONResponse({"error": error}, status)


def raw_error(status: str, message: str, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A whole HTTP/1.1 error response, for bytes that are not a request that an application could answer."""
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    body = json.dumps({"error": error}).encode()
    basic_headers = [
        (b"connection", b"close"),
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"x-request-id", f"req-{uuid.uuid4().hex}".encode()),
    ]
    lines = [b"%b: %b" % header for header in (*basic_headers, *headers)]
    return b"\r\n".join([f"HTTP/1.1 {status}".encode(), *lines, b"", body])


def install_handlers(app: FastAPI) -> None:
    """Register the handlers: routes raise AdaError and do not catch it."""
    app.add_exception_handler(AdaError, _ada_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(ClientDisconnect, _client_gone)
    app.add_exception_handler(Exception, _internal_error)


def error_response(error: AdaError) -> tuple[int, dict[str, object]]:
    """HTTP status and body for one of our errors."""
    if isinstance(error, UpstreamError):
        return error.status, _upstream_body(error)
    status, kind, code = _TABLE.get(type(error), (500, "server_error", "internal_error"))
    param = None
    if isinstance(error, FieldError):
        param, code = error.param, error.code or code
    return status, {"error": {"message": str(error), "type": kind, "param": param, "code": code}}


def _upstream_body(error: UpstreamError) -> dict[str, object]:
    """vLLM's error with OpenAI's types. vLLM repeats the status as `code`, so only a text is passed on."""
    body = error.body["error"]
    assert isinstance(body, dict)
    kind = "invalid_request_error" if error.status < 500 else "server_error"
    code = body["code"] if isinstance(body.get("code"), str) else None
    return {"error": {"message": body.get("message"), "type": kind, "param": body.get("param"), "code": code}}


def error_headers(error: AdaError) -> dict[str, str]:
    """Headers of the response to one of our errors."""
    if isinstance(error, RateLimited) or (isinstance(error, ModelUnavailable) and error.retry_after_s):
        return {"Retry-After": str(max(1, math.ceil(error.retry_after_s)))}
    if isinstance(error, Unauthorized):
        return {"WWW-Authenticate": "Bearer"}
    return {}


async def _ada_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, AdaError)
    status, body = error_response(error)
    return JSONResponse(body, status, error_headers(error))


async def _validation_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    path = () if first["type"] == "json_invalid" else first["loc"][1:]  # after "body", "query" or "header"
    param = ".".join(map(str, path))
    message = f"{param or 'the request body'}: {first['msg'].removeprefix('Value error, ')}"
    return openai_error(422, message, "invalid_request_error", param=param or None, code="invalid_value")


async def _http_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    kind = "invalid_request_error" if error.status_code < 500 else "server_error"
    answer = openai_error(error.status_code, str(error.detail), kind)
    answer.headers.update(error.headers or {})
    return answer


def internal_error(error: Exception) -> dict[str, object]:
    """The body for an exception that is a bug; the log gets its traceback."""
    log.error("internal error", exc_info=error)
    message = "an internal error occurred; see the log"
    return {"error": {"message": message, "type": "server_error", "param": None, "code": "internal_error"}}


async def _internal_error(_request: Request, error: Exception) -> JSONResponse:
    return JSONResponse(internal_error(error), 500)


async def _client_gone(_request: Request, _error: Exception) -> Response:
    """The client disconnected while it sent its body. Only the log and the metrics see this 499."""
    return Response(status_code=CLIENT_GONE)
