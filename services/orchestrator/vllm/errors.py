"""Translates whatever goes wrong at vLLM into services/errors.py's errors.

They are ModelUnavailable, ModelTimeout, ModelFaulty, RateLimited and UpstreamError. Their messages reach
clients, so they contain neither vLLM's address nor the names of its exceptions.
"""

import ast
import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
from pydantic_core import from_json

from services.errors import AdaError, ModelFaulty, ModelTimeout, ModelUnavailable, RateLimited, UpstreamError

log = logging.getLogger("ada.orchestrator")
RETRY_AFTER_S = 2.0
_MESSAGE_CHARACTERS = 2000
_ADDRESS = re.compile(
    r"[a-z][a-z0-9+.-]*://[^\s'\"<>]+"  # a URL
    r"|\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b"  # IPv4
    r"|\[[0-9a-f:]*:[0-9a-f:]*\](?::\d+)?"  # IPv6
    r"|\b(?:localhost|[a-z][\w-]*(?:\.[\w-]+)+):\d{2,5}\b",
    re.IGNORECASE,
)
_EXCEPTION = re.compile(r"\b(?:\w+\.)*\w+(?:Error|Exception)\b(?:\(\)|:)?\s*")
_TRACEBACK = re.compile(r'Traceback \(most recent|^\s*File "[^"]*", line', re.MULTILINE)
_PARAMETER_SUFFIX = re.compile(r" \(parameter=.*\)$", re.DOTALL)
_COMPLAINT = re.compile(r"'loc': '([^']*)', 'msg': (?:'([^']*)'|\"([^\"]*)\")")
_BODY_PREFIX = "body."


@contextmanager
def translated_errors(url: str) -> Iterator[None]:
    """Translate what aiohttp raises in the block. `url` is for the log alone.

    Raises ModelTimeout, ModelFaulty, ModelUnavailable.
    """
    try:
        yield
    except TimeoutError as error:
        raise ModelTimeout(
            "the model server did not answer in time: ask for a shorter answer, or try again"
        ) from error
    except aiohttp.ClientResponseError as error:  # no HTTP, or headers that are too large
        log.warning("the model server at %s: %s", url, type(error).__name__)
        raise ModelFaulty("the model server did not send a valid HTTP response: try again") from error
    except aiohttp.ClientError as error:
        log.warning("the model server at %s: %s", url, type(error).__name__)
        raise ModelUnavailable(
            "the model server closed the connection during its answer: try again"
        ) from error


def error_of_response(status: int, content: bytes, address: str) -> AdaError:
    """The error for an HTTP status other than 200 and its body.

    `address` is vLLM's own host and port, which are removed from the message.
    """
    if status in (401, 403, 407):
        log.error("the model server rejects the orchestrator's key (HTTP %d): see MODEL_API_KEY", status)
        return ModelUnavailable(
            "the model server rejects the orchestrator's key: set the same MODEL_API_KEY for both"
        )
    if status == 429:
        return RateLimited("the model server is at capacity: try again later", RETRY_AFTER_S)
    fields = _error_fields(content, address) if 400 <= status < 500 else None
    if fields is None:
        log.warning("the model server answered with an error (HTTP status %d)", status)
        return _error_of_status(status)
    return UpstreamError(status, {"error": fields})


def error_in_answer(answer: object, address: str) -> AdaError | None:
    """The error that an answer with status 200, or an event of a stream, contains; None without one.

    vLLM writes the HTTP status into `code`.
    """
    if not isinstance(answer, dict):
        return None
    error = answer.get("error") or (answer if answer.get("type") in ("error", "response.failed") else None)
    if not error:
        return None
    code = error.get("code") if isinstance(error, dict) else None
    status = code if isinstance(code, int) and 400 <= code < 600 else 500
    return error_of_response(status, json.dumps({"error": error}).encode(), address)


def without_internals(message: str, address: str) -> str:
    """A message without addresses, names of exceptions and tracebacks."""
    message = _TRACEBACK.split(message, maxsplit=1)[0]
    message = _ADDRESS.sub("(address)", message.replace(address, "(address)"))
    return _EXCEPTION.sub("", message).strip()[:_MESSAGE_CHARACTERS]


def readable_error(error: UpstreamError) -> UpstreamError:
    """The error with a message of one line, and the name of the field as the client wrote it."""
    fields = error_fields(error)
    message, param = str(fields.get("message")), fields.get("param")
    if complaint := _first_complaint(message):
        param, reason = complaint
        message = f"{param}: {reason}"
    if isinstance(param, str):
        param = param.removeprefix(_BODY_PREFIX)
    message = _PARAMETER_SUFFIX.sub("", message)
    return UpstreamError(error.status, {"error": {**fields, "message": message, "param": param}})


def error_fields(error: UpstreamError) -> dict[str, Any]:
    """The `error` object of OpenAI's error body."""
    fields = error.body["error"]
    assert isinstance(fields, dict)
    return fields


def _error_of_status(status: int) -> AdaError:
    if status == 503:
        return ModelUnavailable("the model server can't accept requests now: try again", RETRY_AFTER_S)
    if status == 504:
        return ModelTimeout("the model server did not answer in time: try again")
    return ModelFaulty("the model server failed to process this request: try again")


def _error_fields(content: bytes, address: str) -> dict[str, object] | None:
    """The fields of vLLM's error that may be passed on; None when it is not in OpenAI's shape."""
    try:
        body = from_json(content, allow_inf_nan=False)
    except ValueError:
        return None
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict) or not isinstance(error.get("message"), str):
        return None
    message = without_internals(error["message"], address)
    if not message:
        return None
    texts = {name: error[name] if isinstance(error.get(name), str) else None for name in ("param", "code")}
    return {"message": message, "type": "invalid_request_error", **texts}


def _first_complaint(message: str) -> tuple[str, str] | None:
    """Field and reason of the first relevant complaint in one of pydantic's validation errors.

    Pydantic lists one complaint for each type that a field may have. Complaints about the types that were not
    sent are passed over, unless there are no others.
    """
    complaints = list(_complaints(message))
    relevant = [
        complaint for complaint in complaints if not complaint["type"].endswith(("_type", "literal_error"))
    ] or complaints
    if not relevant:
        return None
    return relevant[0]["loc"].removeprefix(_BODY_PREFIX), relevant[0]["msg"]


def _complaints(message: str) -> Iterator[dict[str, str]]:
    first_line, *lines = message.split("\n")
    if "validation error" not in first_line:
        return
    for line in lines:
        try:
            complaint = ast.literal_eval(line.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):  # truncated, or not a complaint
            complaint = _truncated_complaint(line)
        if isinstance(complaint, dict) and {"type", "loc", "msg"} <= complaint.keys():
            yield {name: str(complaint[name]) for name in ("type", "loc", "msg")}


def _truncated_complaint(line: str) -> dict[str, str] | None:
    match = _COMPLAINT.search(line)
    return {"type": "", "loc": match[1], "msg": match[2] or match[3]} if match else None
