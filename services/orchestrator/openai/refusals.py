"""vLLM's refusals in OpenAI's words: what is too long by its code, a field by its name, all in one line."""

import ast
import re
from collections.abc import Iterator
from typing import Any

from services.errors import AdaError, InvalidRequest, UpstreamError
from services.orchestrator.vllm.context_window import Room

TOO_LONG = "context_length_exceeded"
# How vLLM's versions speak of an answer that does not fit behind its prompt.
_ABOUT_LENGTH = re.compile(
    r"context length|max_model_len|maximum model length|max_(completion_|output_)?tokens", re.I
)
_SUFFIX = re.compile(r" \(parameter=.*\)$", re.DOTALL)
_LOC = re.compile(r"'loc': '([^']*)', 'msg': (?:'([^']*)'|\"([^\"]*)\")")
_PREFIX = "body."


def check_length(room: Room, field: str, error: UpstreamError) -> None:
    """Raises RequestRefused for a prompt that leaves no token for an answer, or not those that are asked for.

    A prompt that is too long is known by its count, however that is worded. `field` holds the prompt:
    messages, input or prompt.
    """
    limit = f"This model's maximum context length is {room.length} tokens. However, "
    if room.prompt >= room.length:
        tokens = f"at least {room.prompt}" if room.at_least else room.prompt
        resulted = f"your {field} resulted in {tokens} tokens. Please reduce the length of the {field}."
        raise InvalidRequest(limit + resulted, field, TOO_LONG)
    is_about_length = _ABOUT_LENGTH.search(str(_told(error).get("message")))
    if is_about_length and room.answer <= room.length < room.prompt + room.answer:
        requested = (
            f"you requested {room.prompt + room.answer} tokens ({room.prompt} in the {field}, {room.answer} "
            f"in the completion). Please reduce the length of the {field} or completion."
        )
        raise InvalidRequest(limit + requested, field, TOO_LONG)


def tidied(error: UpstreamError) -> AdaError:
    """The refusal with one readable line, and the field's name as the client wrote it."""
    told = _told(error)
    message, param = str(told.get("message")), told.get("param")
    complaint = _first_complaint(message)
    if complaint:
        param, reason = complaint
        message = f"{param}: {reason}"
    if isinstance(param, str):
        param = param.removeprefix(_PREFIX)
    return UpstreamError(
        error.status, {"error": {**told, "message": _SUFFIX.sub("", message), "param": param}}
    )


def _told(error: UpstreamError) -> dict[str, Any]:
    told = error.body["error"]
    assert isinstance(told, dict)
    return told


def _first_complaint(message: str) -> tuple[str, str] | None:
    """Field and reason of the first complaint in a list of pydantic's.

    Of a field that may have several types there is one complaint for each; those for other types than the
    sent one say nothing.
    """
    complaints = list(_complaints(message))
    telling = [
        one for one in complaints if not one["type"].endswith(("_type", "literal_error"))
    ] or complaints
    if not telling:
        return None
    return telling[0]["loc"].removeprefix(_PREFIX), telling[0]["msg"]


def _complaints(message: str) -> Iterator[dict[str, str]]:
    head, *lines = message.split("\n")
    if "validation error" not in head:
        return
    for line in lines:
        try:
            found = ast.literal_eval(line.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):  # it was cut, or is none
            found = _pieces(line)
        if isinstance(found, dict) and {"type", "loc", "msg"} <= found.keys():
            yield {name: str(found[name]) for name in ("type", "loc", "msg")}


def _pieces(line: str) -> dict[str, str] | None:
    found = _LOC.search(line)
    return {"type": "", "loc": found[1], "msg": found[2] or found[3]} if found else None
