"""Detects conversations of another persona than the trained one, which would teach a second life.

They are recognised by the field `persona`, which `make conversations` writes; by the speakers' names; and, in
files with neither, by the names of people and places in the shipped persona's facts. Not covered: the
conversations of a third persona without any such mark.
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

# Of the committed samples, 41 of 60 name a person or a place of Ada's life. Another life may name one of her
# towns, so several different names are required.
MIN_SHARE = 0.25
MIN_NAMES = 5
NAMES_LISTED = 5
# English whatever the machine's locale, unlike `calendar`.
MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
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
    """Checks the conversations of one file, item by item."""

    def __init__(self, persona: Persona, known_speakers: Iterable[str] = ()) -> None:
        self._persona = persona
        self._known_speakers = {name.casefold() for name in known_speakers}
        self._strangers: Counter[str] = Counter()
        self._checked = 0
        self._matching = 0  # items with a name from the shipped persona's facts
        self._names: Counter[str] = Counter()

    def check(self, item: Any) -> None:
        """Raise ConfigError for an item that names another persona, as its own or as a speaker."""
        holder = item if isinstance(item, Mapping) else {}
        name = self._persona.assistant_name
        declared = holder.get("persona")
        if isinstance(declared, str) and declared.strip() and declared.casefold() != name.casefold():
            raise ConfigError(
                f"field `persona` says that it is a conversation of {declared!r}, not of {name}"
            )
        turns = [turn for turn in _turns(holder) if isinstance(turn, Mapping)]
        strangers = {_speaker(turn) for turn in turns} - self._known_speakers - {""}
        self._strangers.update(strangers)
        if others := self._shipped_speakers & strangers:
            raise ConfigError(f"its speakers are of another persona ({', '.join(sorted(others))})")
        if not isinstance(declared, str):
            self._count(" ".join(_text(turn) for turn in turns))

    def verdict(self) -> str:
        """The evidence in all checked items for another persona; empty when there is none."""
        if len(self._names) < MIN_NAMES or self._matching < MIN_SHARE * self._checked:
            return ""
        names = ", ".join(name for name, _ in self._names.most_common(NAMES_LISTED))
        shipped = self._shipped.assistant_name
        return f"{self._matching} of {self._checked} conversations speak of {shipped}'s life ({names}, …)"

    def warning(self) -> str:
        """The other speakers that were taken for user and persona; empty when there are none."""
        if not self._strangers:
            return ""
        names = ", ".join(repr(name) for name, _ in self._strangers.most_common(NAMES_LISTED))
        return (
            f"conversations are of speakers that {self._persona.assistant_name}'s persona file does not name "
            f"({names}), who are taken for {self._persona.user_name} and {self._persona.assistant_name}"
        )

    def _count(self, text: str) -> None:
        names = self._foreign_names.intersection(_WORD.findall(text))
        self._checked += 1
        self._matching += bool(names)
        self._names.update(names)

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
    conversations: Iterator[tuple[str, str, Any]], path: Path, foreign: ForeignConversations, remedy: str
) -> Iterator[tuple[str, str, Any]]:
    """Yield (position, origin, conversation) while they are of the trained persona.

    Raises ConfigError that names the file, and the line if one line shows it.
    """
    for where, origin, conversation in conversations:
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
