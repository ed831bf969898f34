"""The user's own Drew/Ada conversations: `[{"conversations": [{"role", "content"}, ...]}, ...]`."""

import json
from collections.abc import Iterator
from pathlib import Path

from services.errors import ConfigError
from trainer.sample import Sample, Turn

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
        items = json.loads(path.read_bytes().decode("utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no file {path}. {REMEDY}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 (byte {error.start}). {REMEDY}") from None
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
        yield Sample(
            "conversations",
            f"{path.name}:{number}",
            tuple(_turn(where, place, turn) for place, turn in enumerate(turns)),
        )


def _turn(where: str, place: int, turn: object) -> Turn:
    """Drew speaks first, then they take turns."""
    expected = ("user", "assistant")[place % 2]
    if not isinstance(turn, dict) or turn.get("role") != expected:
        raise ConfigError(f"{where}, turn {place}: field `role` must be {expected!r}. {REMEDY}")
    content = turn.get("content")
    if not isinstance(content, str) or not content.strip():
        raise ConfigError(f"{where}, turn {place}: field `content` must be text. {REMEDY}")
    return {"role": expected, "content": content}
