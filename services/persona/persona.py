"""A persona: the speakers' names, the pronouns, the system text and the dated facts of a life."""

import tomllib
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.errors import ConfigError
from services.persona.checks import problems_in
from services.persona.pronouns import Pronouns, pronouns_of

DEFAULT_PERSONA = Path(__file__).with_name("persona.toml")


@dataclass(frozen=True)
class Fact:
    """One dated fact of the backstory; `date` is YYYY, YYYY-MM or YYYY-MM-DD."""

    date: str
    topic: str
    text: str


@dataclass(frozen=True)
class Persona:
    """The contents of a persona file."""

    user_name: str
    assistant_name: str
    system_text: str
    facts: tuple[Fact, ...]
    pronouns: Pronouns = field(default_factory=lambda: pronouns_of(""))
    id: str = ""  # survives a renaming of the persona; a diary belongs to it

    @property
    def identity(self) -> str:
        """The key by which a diary belongs to a persona: the id, or the name if the file has no id."""
        return self.id or unicodedata.normalize("NFKC", self.assistant_name).casefold()


def load_persona(path: Path = DEFAULT_PERSONA) -> Persona:
    """Read a persona from TOML.

    Raises ConfigError naming the file and the key when something is missing or malformed.
    """
    table = read_table(path)
    if problems := problems_in(table):
        others = f" (and {len(problems) - 1} more: make check-persona FILE={path})" if problems[1:] else ""
        raise ConfigError(f"{path}: {problems[0]}{others}")
    return _persona(table)


def read_table(path: Path) -> dict[str, Any]:
    """Parse the TOML file without validation. Raises ConfigError when it can't be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(f"no persona at {path}: set PERSONA to a persona.toml") from None
    except OSError as error:
        raise ConfigError(f"{path} can't be read ({error.strerror}): set PERSONA to a persona.toml") from None
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, UnicodeDecodeError
        raise ConfigError(f"{path} is not valid TOML in UTF-8: {error}") from None


def _persona(table: dict[str, Any]) -> Persona:
    names = table["names"]
    assistant = _name(names["assistant"])
    return Persona(
        user_name=_name(names["user"]),
        assistant_name=assistant,
        system_text=table["system"]["text"].strip(),
        facts=tuple(Fact(fact["date"], fact["topic"], fact["text"]) for fact in table.get("facts", [])),
        pronouns=pronouns_of(assistant, names.get("pronouns", "")),
        id=names.get("id", ""),
    )


def _name(name: str) -> str:
    """Normalize a name to NFC, so that template, headers and training data spell it alike."""
    return unicodedata.normalize("NFC", name)
