"""Reads LoCoMo's conversations and questions (Maharana et al., ACL 2024, arXiv 2402.17753).

A question's evidence is the set of turns that answer it. Recall@k is the share of them among the first k
turns, averaged over all questions with evidence. Malformed ids in the official file ("D8:6; D9:17",
"D:11:26", "D30:05") are read as meant; an id that names no turn ("D") is ignored, and so is a question
without any.
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
    """The text of one speaker, with the caption of a picture if one was shared."""

    id: str
    speaker: str
    text: str
    caption: str


@dataclass(frozen=True)
class Session:
    """Turns of one day; `date_time` is the text in the file."""

    number: int
    date_time: str
    at: datetime
    turns: list[Turn]


@dataclass(frozen=True)
class Question:
    """A question; `evidence` has the ids of at least one turn."""

    text: str
    category: str
    evidence: frozenset[str]


@dataclass(frozen=True)
class Conversation:
    """Sessions in order, and the questions about them."""

    name: str
    sessions: list[Session]
    questions: list[Question]

    @property
    def turns(self) -> list[Turn]:
        return [turn for session in self.sessions for turn in session.turns]


def load(path: Path) -> list[Conversation]:
    """The conversations of a LoCoMo file, which has a list of them or one. Raises ConfigError."""
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
    sessions = sorted(
        _sessions(_field(row, "conversation", dict, where), where), key=lambda session: session.number
    )
    if not sessions:
        raise ConfigError(f'{where}: "conversation" has no "session_1", "session_2" and so on with turns')
    ids = {turn.id for session in sessions for turn in session.turns}
    rows = _field(row, "qa", list, where)
    questions = [_question(qa, ids, f'{where}, "qa" {number}') for number, qa in enumerate(rows, 1)]
    name = str(row.get("sample_id") or where.rsplit(", ", 1)[-1])
    return Conversation(name, sessions, [question for question in questions if question.evidence])


def _sessions(conversation: dict[str, Any], where: str) -> Iterator[Session]:
    for key, turns in conversation.items():
        number = _SESSION.fullmatch(key)
        if number and turns:
            date_time = _field(conversation, f"{key}_date_time", str, f'{where}, "conversation"')
            path = f'{where}, "{key}"'
            at = _parse_date_time(date_time, path)
            yield Session(int(number[1]), date_time, at, list(_turns(turns, path)))


def _parse_date_time(date_time: str, where: str) -> datetime:
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
    if match := _DATE_TIME.fullmatch(date_time.strip()):
        return match.groups()
    raise ValueError(date_time)


def _turns(turns: Any, where: str) -> Iterator[Turn]:
    if not isinstance(turns, list):
        raise ConfigError(f"{where} is no list of turns")
    for number, turn in enumerate(turns, 1):
        path = f"{where}, turn {number}"
        caption = turn.get("blip_caption") if isinstance(turn, dict) else None
        yield Turn(
            _field(turn, "dia_id", str, path),
            _field(turn, "speaker", str, path),
            _one_line(_field(turn, "text", str, path)),
            _one_line(str(caption or "")),
        )


def _question(row: Any, ids: set[str], where: str) -> Question:
    number = _field(row, "category", int, where)
    if number not in CATEGORIES:
        raise ConfigError(f"{where} has the category {number}: LoCoMo has {sorted(CATEGORIES)}")
    ids_text = " ".join(map(str, _field(row, "evidence", list, where))) if "evidence" in row else ""
    evidence = {f"D{int(session)}:{int(turn)}" for session, turn in _EVIDENCE.findall(ids_text)}
    return Question(_field(row, "question", str, where), CATEGORIES[number], frozenset(evidence & ids))


def _field(row: Any, name: str, kind: type, where: str) -> Any:
    """A field of a row, of type `kind`. Raises ConfigError."""
    if not isinstance(row, dict):
        raise ConfigError(f"{where} is no object, but {type(row).__name__}: is this a LoCoMo file?")
    if not isinstance(row.get(name), kind):
        actual = type(row[name]).__name__ if name in row else "missing"
        raise ConfigError(
            f'{where}: "{name}" should be {kind.__name__} and is {actual}: is this a LoCoMo file?'
        )
    return row[name]


def _one_line(text: str) -> str:
    return " ".join(text.split())
