"""The fields that Obsidian, Jekyll and others write in YAML above a note, between two lines of ---."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import yaml

from services.diary.dates import parse_date
from services.diary.transfer.date_spelling import normalize_date
from services.diary.transfer.lookahead import Lookahead
from services.tabular.lines import Line

_MOST_LINES = 100
_MOST_CHARACTERS = 4 << 10
_MOST_PARTS = 300  # lists and mappings, however they lie within each other
_DATES = ("date", "day", "created")  # the first that is there
_ENDS = ("---", "...")
_LOADER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # libyaml's is fifty times as fast


@dataclass(frozen=True)
class FrontMatter:
    """How many lines it has behind its first, and what it says; `flaw` says why it can't be read."""

    lines: int
    date: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    flaw: str = ""
    is_creation: bool = False  # the date is that of the note, which its name may know better


def front_matter(line: Line, ahead: Lookahead) -> FrontMatter | None:
    """The front matter that a line begins; nothing is taken from the lines ahead."""
    if line.text.rstrip() != "---":
        return None
    yaml_text: list[str] = []
    for offset in range(_MOST_LINES):
        below = ahead.peek(offset)
        if below is None or below.flaw or not _may_be_yaml(below.text):
            return None
        if below.text.rstrip() in _ENDS:
            return _read("".join(yaml_text), offset + 1) if yaml_text else None
        yaml_text.append(below.text)
    return None


def _may_be_yaml(text: str) -> bool:
    """What is plain prose, or a blank line as stands around a rule of ---, is no front matter."""
    stripped = text.strip()
    return bool(stripped) and (
        ":" in stripped or stripped[0] in "-#]}" or text[0] in " \t" or stripped in _ENDS
    )


def _read(yaml_text: str, lines: int) -> FrontMatter | None:
    if len(yaml_text) > _MOST_CHARACTERS:
        return FrontMatter(lines, flaw=f"its front matter is longer than {_MOST_CHARACTERS >> 10} KiB")
    if sum(map(yaml_text.count, ("[", "{", "- ", "? "))) > _MOST_PARTS:
        return FrontMatter(lines, flaw=f"its front matter has more than {_MOST_PARTS} lists and mappings")
    try:
        mapping = yaml.load(yaml_text, Loader=_LOADER)  # everything is text: no type, no object
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        where = getattr(error, "problem", None) or "too deep"
        return FrontMatter(lines, flaw=f"its front matter is not YAML ({where}): mend it or delete it")
    if not isinstance(mapping, dict):
        return None
    fields = {str(name).lower(): value for name, value in mapping.items()}
    name, date = _dated(fields)
    remaining = _row_fields({known: value for known, value in fields.items() if known != name})
    return FrontMatter(lines, date, remaining, is_creation=name == "created")


def _dated(fields: Mapping[str, Any]) -> tuple[str, str]:
    """The field that has the note's date, and the date."""
    for name in _DATES:
        value = fields.get(name)
        if isinstance(value, str) and value.strip():
            try:
                date = normalize_date(value.strip().strip("[]"))
                parse_date(date, datetime.now(UTC).date())
            except ValueError:
                continue
            return name, date
    return "", ""


def _row_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """As a row has them: tags are a list, without the # that Obsidian may write."""
    tags = fields.pop("tags", None) or fields.pop("tag", None) or []
    if isinstance(tags, str):
        tags = tags.replace(",", " ").split()
    if isinstance(tags, list):
        fields["tags"] = [str(tag).lstrip("#") for tag in tags if isinstance(tag, str) and tag.strip("# ")]
    return {name: value for name, value in fields.items() if name not in ("text", "content", "id")}
