"""Conversations of another persona than the one that is trained, which would teach a second life.

Recognised by the item's field `persona`, which `make conversations` writes; by the speakers' names; and, in
files that have neither, by the names of people and places in the shipped persona's facts. Not covered: the
conversations of a third persona that say nothing of whose they are.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from services.errors import ConfigError
from services.persona.persona import Persona, load_persona
from trainer.data.sources.turns import SPEAKER, WORDS, first_filled, from_text
from trainer.log import log

# Of the samples 41 of 60 name somebody or some place of Ada's life. Another life may name one of her towns,
# so several different names are asked for.
SHARE = 0.25
NAMES = 5
SHOWN = 5
# English, whatever the machine's language is, which `calendar` would go by.
MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September")
MONTHS += ("October", "November", "December")
DATE_WORDS = frozenset(MONTHS) | {
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
}
_WORD = re.compile(r"[^\W\d_]+")
_NAME = re.compile(r"(?<=[\w,;:] )[A-ZÀ-ÖØ-Þ][^\W\d_]{2,}")


class ForeignConversations:
    """Looks at the conversations of one file, item by item, and says whose they are."""

    def __init__(self, persona: Persona, known_speakers: Iterable[str] = ()) -> None:
        self._persona = persona
        self._known_speakers = {name.casefold() for name in known_speakers}
        self._strangers: Counter[str] = Counter()
        self._seen = 0
        self._telling = 0  # items that name something of the shipped persona's life
        self._named: Counter[str] = Counter()

    def check(self, item: Any) -> None:
        """Raises ConfigError for an item that says itself whose it is."""
        holder = item if isinstance(item, Mapping) else {}
        name = self._persona.assistant_name
        whose = holder.get("persona")
        if isinstance(whose, str) and whose.strip() and whose.casefold() != name.casefold():
            raise ConfigError(f"field `persona` says that it is a conversation of {whose!r}, not of {name}")
        turns = [turn for turn in _turns(holder) if isinstance(turn, Mapping)]
        strangers = {_speaker(turn) for turn in turns} - self._known_speakers - {""}
        self._strangers.update(strangers)
        if others := self._shipped_speakers & strangers:
            raise ConfigError(f"its speakers are of another persona ({', '.join(sorted(others))})")
        if not isinstance(whose, str):
            self._count(" ".join(_text(turn) for turn in turns))

    def verdict(self) -> str:
        """What speaks for another persona in all that was looked at; empty when nothing does."""
        if len(self._named) < NAMES or self._telling < SHARE * self._seen:
            return ""
        names = ", ".join(name for name, _ in self._named.most_common(SHOWN))
        whose = self._shipped.assistant_name
        return f"{self._telling} of {self._seen} conversations speak of {whose}'s life ({names}, …)"

    def warning(self) -> str:
        """Who else speaks in them and was taken for the persona and the user; empty when nobody is."""
        if not self._strangers:
            return ""
        names = ", ".join(repr(name) for name, _ in self._strangers.most_common(SHOWN))
        return (
            f"conversations are of speakers that {self._persona.assistant_name}'s persona file does not name "
            f"({names}), who are taken for {self._persona.user_name} and {self._persona.assistant_name}"
        )

    def _count(self, text: str) -> None:
        named = self._foreign_names.intersection(_WORD.findall(text))
        self._seen += 1
        self._telling += bool(named)
        self._named.update(named)

    @cached_property
    def _shipped(self) -> Persona:
        return load_persona()

    @cached_property
    def _is_shipped(self) -> bool:
        return self._shipped.identity == self._persona.identity

    @cached_property
    def _shipped_speakers(self) -> set[str]:
        names = {self._shipped.user_name.casefold(), self._shipped.assistant_name.casefold()}
        own = {self._persona.user_name.casefold(), self._persona.assistant_name.casefold()}
        return set() if self._is_shipped else names - own

    @cached_property
    def _foreign_names(self) -> set[str]:
        if self._is_shipped:
            return set()
        own = set(_WORD.findall(" ".join(_texts(self._persona))))
        own |= {*self._persona.user_name.split(), *self._persona.assistant_name.split()}
        return set(_NAME.findall(" ".join(_texts(self._shipped)))) - own - DATE_WORDS


def own_conversations(
    found: Iterator[tuple[str, str, Any]], path: Path, foreign: ForeignConversations, remedy: str
) -> Iterator[tuple[str, str, Any]]:
    """Pass (where, origin, conversation) on as long as they are of the persona that is trained.

    Raises ConfigError that names the file, and the line where one line shows it.
    """
    for where, origin, conversation in found:
        try:
            foreign.check(conversation)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}. {remedy}") from None
        yield where, origin, conversation
    if verdict := foreign.verdict():
        raise ConfigError(f"{path}: {verdict}. {remedy}")
    if warning := foreign.warning():
        log.warning("%s: %s", path, warning)


def _turns(holder: Mapping[str, Any]) -> list[Any]:
    turns = first_filled(holder, ("conversations", "messages"))
    turns = from_text(turns) if isinstance(turns, str) else turns
    return turns if isinstance(turns, list) else []


def _speaker(turn: Mapping[str, Any]) -> str:
    name = first_filled(turn, SPEAKER)
    return name.strip().casefold() if isinstance(name, str) else ""


def _text(turn: Mapping[str, Any]) -> str:
    words = first_filled(turn, WORDS)
    return words if isinstance(words, str) else str(words or "")


def _texts(persona: Persona) -> list[str]:
    return [persona.system_text, *(fact.text for fact in persona.facts)]
