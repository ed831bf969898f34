"""LoCoMo's conversations and questions (Maharana et al., ACL 2024, arXiv 2402.17753), read and checked.

A question's evidence are the turns that answer it. Recall is the part of them that is found, mean over all
questions that have evidence. Of malformed ids in the official file ("D8:6; D9:17", "D:11:26", "D30:05") the
meaning is taken; one that names no turn ("D") is left out, and a question left with none too.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from services.diary.date_names import MONTH_NAMES
from services.errors import ConfigError

CATEGORIES = {1: "multi-hop", 2: "temporal", 3: "open-domain", 4: "single-hop", 5: "adversarial"}
_SESSION = re.compile(r"session_(\d+)")
_EVIDENCE = re.compile(r"D:?(\d+):(\d+)")
_DATE_TIME = re.compile(r"(1[0-2]|0?[1-9]):([0-5]\d) ([ap])m on (\d{1,2}) (\w+), (\d{4})", re.IGNORECASE)


@dataclass(frozen=True)
class Turn:
    """What one speaker said, with the caption of a picture if one was shared."""

    id: str
    speaker: str
    text: str
    caption: str


@dataclass(frozen=True)
class Session:
    """Turns of one day; `date_time` is as the file has it."""

    number: int
    date_time: str
    at: datetime
    turns: list[Turn]


@dataclass(frozen=True)
class Question:
    """`evidence` holds the ids of turns, at least one."""

    text: str
    category: str
    evidence: frozenset[str]


@dataclass(frozen=True)
class Conversation:
    """Sessions in their order, and the questions about them."""

    name: str
    sessions: list[Session]
    questions: list[Question]

    @property
    def turns(self) -> list[Turn]:
        return [turn for session in self.sessions for turn in session.turns]


def read(path: Path) -> list[Conversation]:
    """The conversations of a LoCoMo file: a list of them, or one. Raises ConfigError."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{path} is no JSON: {error}") from None
    rows = content if isinstance(content, list) else [content]
    if not rows:
        raise ConfigError(f"{path} is an empty list: it should hold LoCoMo's conversations")
    return [_conversation(row, f"{path}, conversation {number}") for number, row in enumerate(rows, 1)]


def _conversation(row: Any, where: str) -> Conversation:
    sessions = sorted(_sessions(_field(row, "conversation", dict, where), where), key=lambda one: one.number)
    if not sessions:
        raise ConfigError(f'{where}: "conversation" has no "session_1", "session_2" and so on with turns')
    ids = {turn.id for session in sessions for turn in session.turns}
    asked = _field(row, "qa", list, where)
    questions = [_question(one, ids, f'{where}, "qa" {number}') for number, one in enumerate(asked, 1)]
    name = str(row.get("sample_id") or where.rsplit(", ", 1)[-1])
    return Conversation(name, sessions, [one for one in questions if one.evidence])


def _sessions(conversation: dict[str, Any], where: str) -> Iterator[Session]:
    for key, turns in conversation.items():
        number = _SESSION.fullmatch(key)
        if number and turns:
            date_time = _field(conversation, f"{key}_date_time", str, f'{where}, "conversation"')
            place = f'{where}, "{key}"'
            yield Session(int(number[1]), date_time, _moment(date_time, place), list(_turns(turns, place)))


def _moment(date_time: str, where: str) -> datetime:
    try:
        hour, minute, half, day, month, year = _groups(date_time)
        number = [name.casefold() for name in MONTH_NAMES].index(month.casefold()) + 1
        afternoon = 12 if half.casefold() == "p" else 0
        return datetime(int(year), number, int(day), int(hour) % 12 + afternoon, int(minute))
    except ValueError:
        raise ConfigError(
            f'{where} has the date {date_time!r}: it should be like "1:56 pm on 8 May, 2023"'
        ) from None


def _groups(date_time: str) -> tuple[str, ...]:
    if found := _DATE_TIME.fullmatch(date_time.strip()):
        return found.groups()
    raise ValueError(date_time)


def _turns(turns: Any, where: str) -> Iterator[Turn]:
    if not isinstance(turns, list):
        raise ConfigError(f"{where} is no list of turns")
    for number, turn in enumerate(turns, 1):
        place = f"{where}, turn {number}"
        caption = turn.get("blip_caption") if isinstance(turn, dict) else None
        yield Turn(
            _field(turn, "dia_id", str, place),
            _field(turn, "speaker", str, place),
            _one_line(_field(turn, "text", str, place)),
            _one_line(str(caption or "")),
        )


def _question(row: Any, ids: set[str], where: str) -> Question:
    number = _field(row, "category", int, where)
    if number not in CATEGORIES:
        raise ConfigError(f"{where} has the category {number}: LoCoMo has {sorted(CATEGORIES)}")
    named = " ".join(map(str, _field(row, "evidence", list, where))) if "evidence" in row else ""
    evidence = {f"D{int(session)}:{int(turn)}" for session, turn in _EVIDENCE.findall(named)}
    return Question(_field(row, "question", str, where), CATEGORIES[number], frozenset(evidence & ids))


def _field(row: Any, name: str, kind: type, where: str) -> Any:
    """A field of the kind that it should be. Raises ConfigError."""
    if not isinstance(row, dict):
        raise ConfigError(f"{where} is no object, but {type(row).__name__}: is this a LoCoMo file?")
    if not isinstance(row.get(name), kind):
        found = type(row[name]).__name__ if name in row else "missing"
        raise ConfigError(
            f'{where}: "{name}" should be {kind.__name__} and is {found}: is this a LoCoMo file?'
        )
    return row[name]


def _one_line(text: str) -> str:
    return " ".join(text.split())
