"""The file of a new persona: valid as it is, and meant to be replaced line by line."""

import re
import tomllib
import unicodedata
from pathlib import Path

from services.errors import ConfigError
from services.persona.checks import problems_in
from services.persona.pronouns import PRONOUNS

FOLDER = Path("data/personas")
_SKELETON = '''# A fictional person. What is trained on this file is an AI persona, and the platform says so.

[names]
user = "{user}"           # who talks with the persona
assistant = "{name}"
pronouns = "{pronouns}"   # {all_pronouns}

[system]
text = """You are {name}. You are talking with {user}, your friend. Speak in the first person, plainly, from \
your own life, and say so when you don't remember."""

# Facts of the life, in the persona's own words: as many as there are, some forty carry a conversation.
# date: YYYY, YYYY-MM or YYYY-MM-DD
# topic: birth, place, family, schooling, work, friends, tastes, scars, week, or another word

[[facts]]
date = "1990-01-31"
topic = "birth"
text = "I was born on 31 January 1990."
'''


def write_skeleton(name: str, user: str, pronouns: str, path: Path | None = None) -> Path:
    """Write a new persona's file and return its path. Raises ConfigError; nothing is overwritten."""
    text = _SKELETON.format(name=name, user=user, pronouns=pronouns, all_pronouns=", ".join(PRONOUNS))
    try:
        problems = problems_in(tomllib.loads(text))
    except tomllib.TOMLDecodeError:
        problems = [f"names.assistant is {name!r}; use a name of letters"]
    if problems:
        raise ConfigError(problems[0])
    path = path or FOLDER / f"{_file_name(name)}.toml"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigError(
            f"{path} is there already: move it away, or choose another path with --out"
        ) from None
    except OSError as error:
        raise ConfigError(f"{path} can't be written ({error.strerror})") from None
    return path


def _file_name(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-") or "persona"
