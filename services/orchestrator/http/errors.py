"""Every error in OpenAI's shape, {"error": {"message", "type", "param", "code"}}; translated only here."""

import logging
import math
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
CLIENT_GONE = 499  # nginx's number for a client who went away before it was answered

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


class Error(BaseModel):
    """OpenAI's error."""

    message: str
    type: str
    param: str | None = Field(description="the field, parameter or header at fault")
    code: str | None


class ErrorAnswer(BaseModel):
    """Every error of every route."""

    error: Error


Told = dict[int | str, dict[str, Any]]
_WHY = {
    400: "the body can't be read, or what was sent is not acceptable",
    401: "the API key is missing, unknown or revoked",
    404: "there is no such thing",
    408: "the body did not come in time",
    409: "used before for something else, or changed meanwhile",
    413: "the body is too large",
    415: "the body is of another type than JSON",
    422: "a field or parameter is not acceptable",
    429: "the key's limit is reached",
    500: "something unforeseen",
    503: "the diary, the model or the adapter is away",
    507: "the disk is full; nothing of this request is half-written",
}


def failures(*statuses: int) -> Told:
    """How a route can fail, for OpenAPI."""
    return {status: {"model": ErrorAnswer, "description": _WHY[status]} for status in statuses}


ERRORS = failures(401, 429, 500, 503)  # of every route of the diary
BODY = (400, 408, 413, 415, 422)  # of a route that reads JSON


def openai_error(
    status: int, message: str, kind: str, *, param: str | None = None, code: str | None = None
) -> JSONResponse:
    """A response with OpenAI's error body."""
    error = {"message": message, "type": kind, "param": param, "code": code}
    return JSONResponse({"error": error}, status)


def install(app: FastAPI) -> None:
    """Register the handlers; routes raise and never catch."""
    app.add_exception_handler(AdaError, _ada_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(ClientDisconnect, _client_gone)
    app.add_exception_handler(Exception, _unforeseen)


def describe(error: AdaError) -> tuple[int, dict[str, object]]:
    """HTTP status and OpenAI's error body of an error of ours."""
    if isinstance(error, UpstreamError):
        return error.status, _models_own(error)
    status, kind, code = _TABLE.get(type(error), (500, "server_error", "internal_error"))
    param = None
    if isinstance(error, FieldError):
        param, code = error.param, error.code or code
    return status, {"error": {"message": str(error), "type": kind, "param": param, "code": code}}


def _models_own(error: UpstreamError) -> dict[str, object]:
    """vLLM's error with OpenAI's words for its kind; the code there is the status once more."""
    told = error.body["error"]
    assert isinstance(told, dict)
    kind = "invalid_request_error" if error.status < 500 else "server_error"
    code = told["code"] if isinstance(told.get("code"), str) else None
    return {"error": {"message": told.get("message"), "type": kind, "param": told.get("param"), "code": code}}


def headers(error: AdaError) -> dict[str, str]:
    """What the answer to an error of ours says in its headers."""
    if isinstance(error, RateLimited) or (isinstance(error, ModelUnavailable) and error.retry_after_s):
        return {"Retry-After": str(max(1, math.ceil(error.retry_after_s)))}
    if isinstance(error, Unauthorized):
        return {"WWW-Authenticate": "Bearer"}
    return {}


async def _ada_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, AdaError)
    status, body = describe(error)
    return JSONResponse(body, status, headers(error))


async def _validation_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = () if first["type"] == "json_invalid" else first["loc"][1:]  # behind "body", "query", "header"
    param = ".".join(map(str, where))
    message = f"{param or 'the request body'}: {first['msg'].removeprefix('Value error, ')}"
    return openai_error(422, message, "invalid_request_error", param=param or None, code="invalid_value")


async def _http_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    kind = "invalid_request_error" if error.status_code < 500 else "server_error"
    answer = openai_error(error.status_code, str(error.detail), kind)
    answer.headers.update(error.headers or {})
    return answer


def unforeseen(error: Exception) -> dict[str, object]:
    """OpenAI's error body of what nobody thought of; the log gets what it was."""
    log.error("something unforeseen went wrong", exc_info=error)
    message = "something unforeseen went wrong; the log says more"
    return {"error": {"message": message, "type": "server_error", "param": None, "code": "internal_error"}}


async def _unforeseen(_request: Request, error: Exception) -> JSONResponse:
    return JSONResponse(unforeseen(error), 500)


async def _client_gone(_request: Request, _error: Exception) -> Response:
    """The client left before its body was whole. Nobody hears this; the log and the metrics say 499."""
    return Response(status_code=CLIENT_GONE)
