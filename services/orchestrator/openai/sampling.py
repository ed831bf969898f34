"""Fields of OpenAI's requests that go to vLLM as they are: told in the OpenAPI document, checked by vLLM."""

from collections.abc import Callable
from typing import Any

Json = dict[str, Any]


def _number(description: str, low: float | None = None, high: float | None = None) -> Json:
    limits = {"minimum": low, "maximum": high}
    return {
        "type": ["number", "null"],
        "description": description,
        **{name: limit for name, limit in limits.items() if limit is not None},
    }


def _whole(description: str, low: int | None = None, high: int | None = None) -> Json:
    return {**_number(description, low, high), "type": ["integer", "null"]}


_DRAWN: Json = {
    "temperature": _number("0 is greedy", 0, 2),
    "top_p": _number("draw from the likeliest tokens that together have this probability", 0, 1),
    "top_k": _whole("draw from so many of the likeliest tokens; 0 and -1 are all", -1),
}
_SAMPLED: Json = _DRAWN | {
    "min_p": _number("leave out tokens less likely than this part of the likeliest", 0, 1),
    "presence_penalty": _number("against words that were said", -2, 2),
    "frequency_penalty": _number("against words, the more often they were said", -2, 2),
    "repetition_penalty": _number("above 1 against repeating; vLLM's own", 0),
    "seed": _whole("the same draw again"),
    "n": _whole("so many answers", 1),
    "stop": {
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}, {"type": "null"}],
        "description": "an answer ends before any of these",
    },
    "logit_bias": {
        "type": ["object", "null"],
        "additionalProperties": {"type": "number"},
        "description": "token id → what is added to its logit",
    },
    "max_tokens": _whole("of the answer, at most", 1),
}
_FORMAT: Json = {"type": ["object", "null"], "description": "`json_object`, or `json_schema` with the schema"}
_LIKELIEST = "so many of the likeliest tokens at each place"

CHAT_FIELDS: Json = _SAMPLED | {
    "max_completion_tokens": _whole("the newer name of `max_tokens`", 1),
    "logprobs": {"type": ["boolean", "null"], "description": "the log probability of each token"},
    "top_logprobs": _whole(f"{_LIKELIEST}; with `logprobs`", 0),
    "response_format": _FORMAT,
}
COMPLETION_FIELDS: Json = _SAMPLED | {
    "logprobs": _whole(_LIKELIEST, 0),
    "echo": {"type": ["boolean", "null"], "description": "the prompt before the answer"},
}
RESPONSE_FIELDS: Json = _DRAWN | {
    "max_output_tokens": _whole("of the answer, at most", 1),
    "text": {"type": ["object", "null"], "description": "`format`, as `response_format` in a chat"},
}


def told_with(fields: Json, example: Json) -> Callable[[Json], None]:
    """For `json_schema_extra`: tells the fields, and a request that works as it is."""

    def tell(schema: Json) -> None:
        schema["properties"] |= fields
        schema["examples"] = [example]

    return tell
