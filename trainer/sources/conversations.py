"""The user's own Drew/Ada conversations: `[{"conversations": [{"role", "content"}, ...]}, ...]`."""

import json
from collections.abc import Iterator
from pathlib import Path

from services.errors import ConfigError
from trainer.sample import Sample, Turn, is_utf8
from trainer.sources.table import lines

REMEDY = (
    'Write conversations there as [{"conversations": [{"role": "user", "content": "..."}, '
    '{"role": "assistant", "content": "..."}]}], like data/samples/generated_conversations.json, '
    "or set generated_data_path"
)


def read(path: Path, seed: int) -> Iterator[Sample]:
    """Yield one sample a conversation.

    Raises ConfigError naming file, line (broken JSON) or conversation and field.
    """
    del seed  # nothing is drawn here
    try:
        items = json.loads("".join(lines(path, REMEDY)))
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{path}, line {error.lineno}, column {error.colno}: {error.msg}. {REMEDY}"
        ) from None
    if not isinstance(items, list):
        raise ConfigError(f"{path} holds no list. {REMEDY}")
    for number, item in enumerate(items):
        where = f"{path}, conversation {number}"
        turns = item.get("conversations") if isinstance(item, dict) else None
        if not isinstance(turns, list) or len(turns) < 2:
            raise ConfigError(f"{where}: field `conversations` must hold two turns or more. {REMEDY}")
        checked = tuple(_turn(where, place, turn) for place, turn in enumerate(turns))
        if len(checked) % 2:
            raise ConfigError(f"{where}: the last turn must be the assistant's. {REMEDY}")
        yield Sample("conversations", f"{path.name}:{number}", checked)


def _turn(where: str, place: int, turn: object) -> Turn:
    """Drew speaks first, then they take turns."""
    expected = ("user", "assistant")[place % 2]
    if not isinstance(turn, dict) or turn.get("role") != expected:
        raise ConfigError(f"{where}, turn {place}: field `role` must be {expected!r}. {REMEDY}")
    content = turn.get("content")
    if not isinstance(content, str) or not content.strip() or not is_utf8(content):
        raise ConfigError(f"{where}, turn {place}: field `content` must be text. {REMEDY}")
    return {"role": expected, "content": content}
