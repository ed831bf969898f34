"""One turn of a conversation in the formats of data sets: its speaker, its text, and whether it carries loss.

A turn marked with `weight: 0`, `train: false` or the like (OpenAI, Mistral, Axolotl, ms-swift) is context
without loss. An unknown key is a flaw, because it may be such a mark.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from trainer.data.sources.rows import JSON, is_blank, is_text, listed

SPEAKER, WORDS = ("role", "from"), ("content", "value")
# 1 or true: the turn carries loss; 0 or false: it does not.
LEARN_FLAGS = ("weight", "train", "training", "trainable", "train_on_turn", "learn", "loss", "loss_mask")
# The same as keys of a whole conversation, where `loss` may be a measurement.
ROW_FLAGS = ("weight", "train", "trainable", "loss_mask")
# Lists of flags outside the turns.
ROW_LISTS = ("weights", "loss_masks", "loss_weights", "train_mask")
HARMLESS = (
    *("id", "uuid", "message_id", "turn_id", "parent_id", "index", "turn", "turn_identifier"),
    *("name", "language", "lang", "source", "model", "metadata", "label", "end_turn", "status"),
    *("timestamp", "time", "date", "created", "created_at", "create_time", "updated_at", "update_time"),
    *("tokens", "token_count", "token_counter", "num_tokens", "usage", "finish_reason", "stop_reason"),
)
TEXT_PARTS = ("text", "input_text", "output_text", "refusal")  # as the API takes them


class Flaw(Exception):
    """Names the turn and the field of a conversation that is wrong, and what it must be."""


def first_filled(holder: Any, names: Iterable[str]) -> Any:
    """The value of the first of `names` that is not blank; null counts as absent next to an alternative."""
    if not isinstance(holder, Mapping):
        return None
    values = [holder[name] for name in names if name in holder]
    return next((value for value in values if not is_blank(value)), values[0] if values else None)


def speaker(index: int, turn: Any) -> str:
    """The speaker's name in lower case. Raises Flaw when the turn has none."""
    name = first_filled(turn, SPEAKER)
    if not isinstance(name, str):
        raise Flaw(f"turn {index}, field `role` must say who speaks")
    return name.strip().lower()


def words(index: int, turn: Mapping[str, Any]) -> str:
    """The text of a turn, also when it is split into parts of type `text`. Raises Flaw when there is none."""
    content = _parts(first_filled(turn, WORDS))
    if isinstance(content, list):
        content = "\n".join(_text_of(index, number, part) for number, part in enumerate(content))
    if not is_text(content) or not content.strip():
        raise Flaw(f"turn {index}, field `content` must be text")
    return str(content)


def is_learned(index: int, turn: Mapping[str, Any]) -> bool:
    """Whether a turn may carry loss."""
    return _flags_allow(f"turn {index}", turn, LEARN_FLAGS)


def is_row_learned(conversation: Any) -> bool:
    """Whether any turn of the conversation may carry loss."""
    if not isinstance(conversation, Mapping):
        return True
    for name in ROW_LISTS:
        if not is_blank(conversation.get(name)):
            raise Flaw(f"field `{name}` is outside the turns: write `weight` 0 or 1 into each turn")
    return _flags_allow("the conversation", conversation, ROW_FLAGS)


def check_keys(index: int, turn: Mapping[str, Any], ignored: Iterable[str]) -> None:
    """Raise Flaw for a key that is neither known nor `ignored` and holds anything."""
    allowed = {*SPEAKER, *WORDS, *LEARN_FLAGS, *HARMLESS, *ignored}
    for name, value in turn.items():
        if name not in allowed and not is_blank(value):
            key = listed([name])
            raise Flaw(
                f"turn {index} has the unknown key `{key}`, which may say that the turn must not be learned: "
                f"take the key out, or set ignored_turn_keys=[{key}] if it does not matter"
            )


def _flags_allow(where: str, holder: Mapping[str, Any], flags: Iterable[str]) -> bool:
    allowed = True
    for name in flags:
        value = holder.get(name)
        if is_blank(value):
            continue
        if value not in (0, 1):
            raise Flaw(
                f"{where}, field `{name}` must be 0 or 1, false or true: Ada learns a turn or does not"
            )
        allowed = allowed and bool(value)
    return allowed


def _parts(content: Any) -> Any:
    """Content that is a list of parts written as text, as the list; anything else unchanged."""
    if isinstance(content, str) and content.lstrip().startswith("[{"):
        parts = from_text(content)
        if isinstance(parts, list) and all(isinstance(part, dict) and "type" in part for part in parts):
            return parts
    return content


def _text_of(index: int, number: int, part: Any) -> str:
    where = f"turn {index}, field `content`"
    if not isinstance(part, dict):
        raise Flaw(f"{where} must be text")
    kind = part.get("type", "text")
    text = part.get("refusal" if kind == "refusal" else "text")
    if kind not in TEXT_PARTS:
        raise Flaw(f"{where}: part {number} has the type {listed([kind])}, and Ada reads text alone")
    if not isinstance(text, str):
        raise Flaw(f"{where}: part {number} must hold its words in `text`")
    if not is_learned(index, part):
        raise Flaw(f"{where}: part {number} is not to be learned: mark whole turns")
    return text


def from_text(text: str) -> Any:
    """The JSON value that `text` holds; None when it is not JSON."""
    try:
        return JSON.decode(text.strip())
    except (json.JSONDecodeError, RecursionError):
        return None
