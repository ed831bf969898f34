"""Reddit narratives from a local JSONL file of `{title, selftext}` posts.

Not covered yet: streaming from the hub, CSV and Parquet.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from services.errors import ConfigError
from trainer.sample import Sample, told

REMEDY = (
    'Put posts there, one JSON object a line: {"title": ..., "selftext": ...}; or set reddit_path; '
    "or set reddit_ratio=0 and let the other ratios sum to 1"
)
GONE = {"", "[removed]", "[deleted]"}


def read(path: Path, seed: int) -> Iterator[Sample]:
    """Yield one sample a post. Raises ConfigError naming file, line and field."""
    del seed  # the title is the question: nothing is drawn
    try:
        with path.open("rb") as file:
            for line, raw in enumerate(file, start=1):
                if raw.strip() and (sample := _sample(path, line, raw)):
                    yield sample
    except FileNotFoundError:
        raise ConfigError(f"no file {path}. {REMEDY}") from None


def _sample(path: Path, line: int, raw: bytes) -> Sample | None:
    try:
        post = json.loads(raw)
        title, text = post["title"].strip(), post["selftext"].strip()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path}, line {line}: {error!r} is no post. {REMEDY}") from None
    return None if text in GONE else told("reddit", f"{path.name}:{line}", title, text)
