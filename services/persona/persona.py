"""A persona: the speakers' names, the system text and the dated facts of a life."""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from services.errors import ConfigError

DEFAULT_PERSONA = Path(__file__).with_name("persona.toml")
_NAME = re.compile(r"[^\W\d_][\w .'-]{0,39}")


@dataclass(frozen=True)
class Fact:
    """One dated fact of the backstory; `date` is YYYY, YYYY-MM or YYYY-MM-DD."""

    date: str
    topic: str
    text: str


@dataclass(frozen=True)
class Persona:
    """Who Ada is."""

    user_name: str
    assistant_name: str
    system_text: str
    facts: tuple[Fact, ...]


def load_persona(path: Path = DEFAULT_PERSONA) -> Persona:
    """Read a persona from TOML.

    Raises ConfigError naming the file and the key when something is missing or malformed.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no persona at {path}: set PERSONA to a persona.toml") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML in UTF-8: {error}") from None
    try:
        persona = Persona(
            user_name=table["names"]["user"],
            assistant_name=table["names"]["assistant"],
            system_text=table["system"]["text"].strip(),
            facts=tuple(Fact(f["date"], f["topic"], f["text"]) for f in table.get("facts", [])),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{path} lacks {error}: a persona needs names.user, names.assistant, system.text, "
            "and in each [[facts]] a date, a topic and a text"
        ) from None
    _check_names(persona, path)
    return persona


def _check_names(persona: Persona, path: Path) -> None:
    """A name becomes part of the template, so it may hold nothing that could be markup."""
    for key, name in (("user", persona.user_name), ("assistant", persona.assistant_name)):
        if not _NAME.fullmatch(name) or name.lower() == "system":
            raise ConfigError(f"{path}: names.{key} is {name!r}; use a name of letters, up to 40 characters")
    if persona.user_name == persona.assistant_name:
        raise ConfigError(f"{path}: names.user and names.assistant are both {persona.user_name!r}")
