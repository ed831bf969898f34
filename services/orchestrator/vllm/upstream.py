"""The guard between vLLM and clients: what vLLM sends is bounded, decoded, and its errors are made Ada's.

Whatever is wrong with it becomes one of services/errors.py's ModelUnavailable, ModelTimeout, ModelFaulty and
ModelRefused. Their messages reach clients, so they name neither vLLM's address nor its exceptions.
"""

import json
import logging
import re
from dataclasses import dataclass

from aiohttp import ClientResponse
from pydantic_core import from_json

from services.errors import AdaError, ModelFaulty, ModelTimeout, ModelUnavailable, RateLimited, UpstreamError

log = logging.getLogger("ada.orchestrator")
Json = dict[str, object]
RETRY_AFTER_S = 2.0
_ERROR_BYTES = 1 << 20
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


@dataclass(frozen=True)
class SizeLimits:
    """Bytes: of a whole answer or one event, and of all events of a stream."""

    whole: int = 32 << 20
    stream: int = 256 << 20


DEFAULT_SIZES = SizeLimits()


def decode(data: bytes) -> object:
    """What JSON says. Raises ModelFaulty for what is none, nested too deeply (200) or no Unicode."""
    try:
        return from_json(data, allow_inf_nan=False)
    except ValueError:
        raise ModelFaulty("the model server's answer is not JSON that can be read: ask again") from None


def encode(data: object) -> bytes:
    """JSON for a client. Raises ModelFaulty for a number that JSON has no word for (1e400 is read as one)."""
    try:
        return json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except ValueError:
        raise ModelFaulty("the model server's answer holds a number that is none: ask again") from None


async def read_whole(response: ClientResponse, most: int) -> bytes:
    """The body of an answer. Raises ModelFaulty when it is larger than `most` bytes."""
    body = bytearray()
    while piece := await response.content.readany():
        body += piece
        if len(body) > most:
            raise ModelFaulty(
                f"the model server's answer is larger than {most} bytes: "
                "ask for fewer answers or log probabilities"
            )
    return bytes(body)


async def check_head(response: ClientResponse, inner: str) -> None:
    """Raise what a status other than 200 means, or an encoding that was not asked for.

    `inner` is vLLM's own host and port, which no client may see.
    """
    status = response.status
    if 400 <= status < 500:
        raise refusal(status, await read_whole(response, _ERROR_BYTES), inner)
    if status != 200:
        log.warning("the model server answered with HTTP status %d", status)
        raise _failure(status)
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise ModelFaulty("the model server's answer is compressed, which was not asked for")


def refusal(status: int, content: bytes, inner: str) -> AdaError:
    """The error of ours for an error that vLLM tells, whole or as an event of a stream."""
    if status in (401, 403, 407):
        log.error("the model server refuses the orchestrator's key (HTTP %d): see MODEL_API_KEY", status)
        return ModelUnavailable("the model server does not accept this Ada's key: both need the same one")
    if status == 429:
        return RateLimited("the model server has no place left: ask again later", RETRY_AFTER_S)
    told = _told(content, inner) if 400 <= status < 500 else None
    if told is None:
        log.warning("the model server told an error (HTTP status %d)", status)
        return _failure(status)
    return UpstreamError(status, {"error": told})


def event_error(found: object, inner: str) -> AdaError | None:
    """The error that an event of a stream tells, if it does: vLLM's `code` is the status."""
    if not isinstance(found, dict):
        return None
    told = found.get("error") or (found if found.get("type") in ("error", "response.failed") else None)
    if not told:
        return None
    code = told.get("code") if isinstance(told, dict) else None
    status = code if isinstance(code, int) and 400 <= code < 600 else 500
    return refusal(status, json.dumps({"error": told}).encode(), inner)


def cleaned(message: str, inner: str) -> str:
    """A message for clients: without addresses, names of exceptions, and places in the code behind it."""
    message = _TRACEBACK.split(message, maxsplit=1)[0]
    message = _ADDRESS.sub("(address)", message.replace(inner, "(address)"))
    return _EXCEPTION.sub("", message).strip()[:_MESSAGE_CHARACTERS]


def _failure(status: int) -> AdaError:
    if status == 503:
        return ModelUnavailable("the model server can't take requests now: ask again", RETRY_AFTER_S)
    if status == 504:
        return ModelTimeout("the model server did not answer in time: ask again")
    return ModelFaulty("the model server failed at this request: ask again")


def _told(content: bytes, inner: str) -> Json | None:
    """The fields of vLLM's error that can be passed on; none when it is not in OpenAI's shape."""
    try:
        body = from_json(content, allow_inf_nan=False)
    except ValueError:
        return None
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict) or not isinstance(error.get("message"), str):
        return None
    message = cleaned(error["message"], inner)
    if not message:
        return None
    texts = {name: error[name] if isinstance(error.get(name), str) else None for name in ("param", "code")}
    return {"message": message, "type": "invalid_request_error", **texts}
