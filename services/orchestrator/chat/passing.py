"""Which fields of a request go to vLLM as they are, and which are refused by name."""

from collections.abc import Mapping
from typing import Any

from services.errors import RequestRefused
from services.orchestrator.engine.vllm import Json

# Ada's template has no place for these, or vLLM would take them from its operator alone.
_REFUSED = {
    "tools": "Ada's template has no tools",
    "functions": "Ada's template has no tools",
    "function_call": "Ada's template has no tools",
    "audio": "Ada has no voice",
    "chat_template": "the model is asked with the template of its training",
    "prompt_embeds": "Ada reads text",
    "mm_processor_kwargs": "Ada reads text",
    "media_io_kwargs": "Ada reads text",
    "documents": "Ada's template has no documents: put them into a message",
    "prompt": "stored prompts are not kept here: send the text",
    "previous_response_id": "nothing is stored here: send the whole conversation",
    "conversation": "nothing is stored here: send the whole conversation",
    "background": "nothing is stored here: wait for the answer",
    "kv_transfer_params": "they are vLLM's own",
    "ec_transfer_params": "they are vLLM's own",
}
# vLLM keys its work by the id, so two clients who send the same one must not meet. The rest is about tools.
_DROPPED = (
    "request_id",
    "tool_choice",
    "parallel_tool_calls",
    "max_tool_calls",
    "store",
    "tools",
    "functions",
)
_SPOKEN = ["text"]
MOST_ANSWERS = 128  # to one question; OpenAI's own limit


def passed(fields: Mapping[str, Any] | None) -> Json:
    """The fields that go on to vLLM. Raises RequestRefused, naming the first that can't."""
    fields = fields or {}
    for name, why in _REFUSED.items():
        if fields.get(name) not in (None, [], {}, False):
            raise RequestRefused(f"{name}: {why}", name, "unsupported_parameter")
    if fields.get("modalities") not in (None, _SPOKEN):
        raise RequestRefused("modalities: Ada answers in text", "modalities", "unsupported_parameter")
    if fields.get("tool_choice") not in (None, "none", "auto"):
        raise RequestRefused(
            "tool_choice: Ada's template has no tools", "tool_choice", "unsupported_parameter"
        )
    _check_number(fields.get("n"))
    return {name: value for name, value in fields.items() if name not in _DROPPED}


def _check_number(n: object) -> None:
    """Not left to vLLM: a stream is made ready for so many answers before it is asked."""
    if n is not None and (type(n) is not int or not 1 <= n <= MOST_ANSWERS):
        raise RequestRefused(f"n: a whole number from 1 to {MOST_ANSWERS} is needed", "n")
