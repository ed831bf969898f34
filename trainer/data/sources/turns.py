"""One turn of a conversation as data sets write it: who speaks, the words, and whether Ada learns them.

A turn marked with `weight: 0`, `train: false` or the like (OpenAI, Mistral, Axolotl, ms-swift) is shown to
Ada and carries no loss. A key that nothing here knows is a flaw: it may say just that.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from trainer.data.sources.rows import JSON, is_blank, is_text, listed

SPEAKER, WORDS = ("role", "from"), ("content", "value")
# 1 or true: it is learned; 0 or false: it is not.
LEARN_FLAGS = ("weight", "train", "training", "trainable", "train_on_turn", "learn", "loss", "loss_mask")
# As keys of a whole conversation; `loss` may be what somebody measured there.
ROW_FLAGS = ("weight", "train", "trainable", "loss_mask")
# A list of flags beside the turns.
ROW_LISTS = ("weights", "loss_masks", "loss_weights", "train_mask")
HARMLESS = (
    *("id", "uuid", "message_id", "turn_id", "parent_id", "index", "turn", "turn_identifier"),
    *("name", "language", "lang", "source", "model", "metadata", "label", "end_turn", "status"),
    *("timestamp", "time", "date", "created", "created_at", "create_time", "updated_at", "update_time"),
    *("tokens", "token_count", "token_counter", "num_tokens", "usage", "finish_reason", "stop_reason"),
)
TEXT_PARTS = ("text", "input_text", "output_text", "refusal")  # as the API takes them


class Flaw(Exception):
    """Which turn and which field of a conversation is wrong, and what it must be."""


def first_filled(holder: Any, names: Iterable[str]) -> Any:
    """The value of the first of `names` that holds something: beside its alternative, null says nothing."""
    if not isinstance(holder, Mapping):
        return None
    values = [holder[name] for name in names if name in holder]
    return next((value for value in values if not is_blank(value)), values[0] if values else None)


def speaker(place: int, turn: Any) -> str:
    """Who speaks, in lower case."""
    name = first_filled(turn, SPEAKER)
    if not isinstance(name, str):
        raise Flaw(f"turn {place}, field `role` must say who speaks")
    return name.strip().lower()


def words(place: int, turn: Mapping[str, Any]) -> str:
    """The text of a turn, also where it stands in parts of type `text`."""
    content = _parts(first_filled(turn, WORDS))
    if isinstance(content, list):
        content = "\n".join(_text_of(place, number, part) for number, part in enumerate(content))
    if not is_text(content) or not content.strip():
        raise Flaw(f"turn {place}, field `content` must be text")
    return content


def is_learned(place: int, turn: Mapping[str, Any]) -> bool:
    """Whether a turn may carry loss."""
    return _flags_allow(f"turn {place}", turn, LEARN_FLAGS)


def is_row_learned(conversation: Any) -> bool:
    """Whether any turn of the conversation may."""
    if not isinstance(conversation, Mapping):
        return True
    for name in ROW_LISTS:
        if not is_blank(conversation.get(name)):
            raise Flaw(f"field `{name}` stands beside the turns: write `weight` 0 or 1 into each turn")
    return _flags_allow("the conversation", conversation, ROW_FLAGS)


def check_keys(place: int, turn: Mapping[str, Any], ignored: Iterable[str]) -> None:
    """Raise Flaw for a key that is neither known nor `ignored` and holds anything."""
    known = {*SPEAKER, *WORDS, *LEARN_FLAGS, *HARMLESS, *ignored}
    for name, value in turn.items():
        if name not in known and not is_blank(value):
            shown = listed([name])
            raise Flaw(
                f"turn {place} has the key `{shown}`, and whether such a turn is to be learned is not known: "
                f"take the key out, or set ignored_turn_keys=[{shown}] if it does not matter"
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
    """A list of parts that is written as text, as the list; anything else as it is."""
    if isinstance(content, str) and content.lstrip().startswith("[{"):
        parts = from_text(content)
        if isinstance(parts, list) and all(isinstance(part, dict) and "type" in part for part in parts):
            return parts
    return content


def _text_of(place: int, number: int, part: Any) -> str:
    where = f"turn {place}, field `content`"
    if not isinstance(part, dict):
        raise Flaw(f"{where} must be text")
    kind = part.get("type", "text")
    text = part.get("refusal" if kind == "refusal" else "text")
    if kind not in TEXT_PARTS:
        raise Flaw(f"{where}: part {number} has the type {listed([kind])}, and Ada reads text alone")
    if not isinstance(text, str):
        raise Flaw(f"{where}: part {number} must hold its words in `text`")
    if not is_learned(place, part):
        raise Flaw(f"{where}: part {number} is not to be learned: mark whole turns")
    return text


def from_text(text: str) -> Any:
    """What a JSON value that was written as text holds; None for what is no JSON."""
    try:
        return JSON.decode(text.strip())
    except (json.JSONDecodeError, RecursionError):
        return None
