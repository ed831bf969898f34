"""Reddit narratives from a local JSONL file of `{title, selftext}` posts.

Not covered yet: streaming from the hub, CSV and Parquet.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from services.errors import ConfigError
from trainer.sample import Sample, is_utf8, told
from trainer.sources.table import lines

REMEDY = (
    'Put posts there, one JSON object a line: {"title": ..., "selftext": ...}; or set reddit_path; '
    "or set reddit_ratio=0 and let the other ratios sum to 1"
)
GONE = {"", "[removed]", "[deleted]"}
UNTITLED = "What's on your mind?"


def read(path: Path, seed: int) -> Iterator[Sample]:
    """Yield one sample a post. Raises ConfigError naming file, line and field."""
    del seed  # the title is the question: nothing is drawn
    for number, line in enumerate(lines(path, REMEDY), start=1):
        if not line.strip():
            continue
        title, text = _post(f"{path}, line {number}", line)
        if text not in GONE:
            yield told("reddit", f"{path.name}:{number}", title or UNTITLED, text)


def _post(where: str, line: str) -> tuple[str, str]:
    """Title and text. No error repeats somebody's words."""
    try:
        post = json.loads(line)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{where}: {error.msg} (column {error.colno}). {REMEDY}") from None
    if not isinstance(post, dict):
        raise ConfigError(f"{where}: this is no post but a {type(post).__name__}. {REMEDY}")
    for field in ("title", "selftext"):
        if not isinstance(post.get(field), str) or not is_utf8(post[field]):
            raise ConfigError(f"{where}: field {field!r} must be text. {REMEDY}")
    return post["title"].strip(), post["selftext"].strip()
