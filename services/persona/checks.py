"""Validation of a persona file: reports every problem with its key.

A persona is written by hand, and the model learns every mistake in it: a duplicate fact counts twice, and a
name becomes part of the chat template. Unknown keys are reported, too.
"""

import re
import unicodedata
from collections.abc import Iterator
from datetime import date
from difflib import get_close_matches
from typing import Any

from services.persona.neutraliser import neutralise
from services.persona.pronouns import PRONOUNS

NAME_CHARACTERS = 40
_KEYS = ("names", "system", "facts")
_NAME_KEYS = ("user", "assistant", "pronouns", "id")
_SYSTEM_KEYS = ("text",)
_FACT_KEYS = ("date", "topic", "text")
# Roles of chat formats: a speaker with such a name could not be distinguished from the role.
_NOBODYS_NAMES = {"system", "developer", "tool", "function"}
_USERS_ROLES, _ASSISTANTS_ROLES = {"user", "human"}, {"assistant", "gpt", "model", "bot"}
_IN_NAMES = " .'’-_"
_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_TOPIC = re.compile(r"[^\W\d_][\w '-]{0,39}")
_DATE = re.compile(r"(\d{4})(?:-(\d\d))?(?:-(\d\d))?", re.ASCII)
_TYPES: dict[type, str] = {str: "text in quotes", dict: "a table", list: "an array of tables"}


def problems_in(table: dict[str, Any]) -> list[str]:
    """Every problem in a persona's TOML table, one line each, beginning with the key."""
    return [
        *_unknown(table, _KEYS, ""),
        *_names(table.get("names")),
        *_system(table.get("system")),
        *_facts(table.get("facts", [])),
    ]


def _unknown(table: dict[str, Any], known: tuple[str, ...], under: str) -> Iterator[str]:
    for key in table:
        if key not in known:
            meant = get_close_matches(key, known, 1) or (["names." + key] if key in _NAME_KEYS else [])
            hint = f"did you mean {meant[0]}?" if meant else f"the keys here are {', '.join(known)}"
            yield f"{under}{_printable(key)}: unknown key; {hint}"


def _wrong_type(value: object, wanted: type, key: str) -> str:
    """The problem if `value` is not of the type `wanted`; empty if it is."""
    if isinstance(value, wanted):
        return ""
    if value is None:
        return f"{key} is missing"
    return f"{key} is {_shown(value)}; it must be {_TYPES[wanted]}"


# Names


def _names(names: object) -> Iterator[str]:
    if wrong := _wrong_type(names, dict, "names"):
        yield f"{wrong}: a persona needs names.user and names.assistant"
        return
    assert isinstance(names, dict)
    yield from _unknown(names, _NAME_KEYS, "names.")
    user = [*_name(names.get("user"), "names.user", _ASSISTANTS_ROLES)]
    assistant = [*_name(names.get("assistant"), "names.assistant", _USERS_ROLES)]
    yield from (*user, *assistant)
    if not user and not assistant and _folded(names["user"]) == _folded(names["assistant"]):
        both = f"names.user and names.assistant are both {names['user']!r}"
        yield f"{both}: the two speakers need different names"
    yield from _pronouns(names.get("pronouns", "she/her"))
    if "id" in names and not (isinstance(names["id"], str) and _ID.fullmatch(names["id"])):
        yield f"names.id is {_shown(names['id'])}; use small letters, digits, - and _, 64 at most"


def _name(name: object, key: str, others_roles: set[str]) -> Iterator[str]:
    if wrong := _wrong_type(name, str, key):
        yield wrong
        return
    assert isinstance(name, str)
    if not _is_name(unicodedata.normalize("NFC", name)):
        yield f"{key} is {_shown(name)}; use a name of letters, up to {NAME_CHARACTERS} characters"
    elif name.casefold() in _NOBODYS_NAMES | others_roles:
        yield f"{key} is {name!r}, which is a role of its own in chats: use another name"


def _is_name(name: str) -> bool:
    """Whether a name begins with a letter of any script and contains nothing that could be markup."""
    if not name or len(name) > NAME_CHARACTERS or name[-1] == " ":
        return False
    kinds = [unicodedata.category(character)[0] for character in name]
    rest = zip(kinds[1:], name[1:], strict=True)
    return kinds[0] == "L" and all(kind in "LM" or c.isdigit() or c in _IN_NAMES for kind, c in rest)


def _pronouns(pronouns: object) -> Iterator[str]:
    if not isinstance(pronouns, str) or pronouns not in PRONOUNS:
        yield f"names.pronouns is {_shown(pronouns)}; use one of {', '.join(PRONOUNS)}"


# Texts


def _system(system: object) -> Iterator[str]:
    if wrong := _wrong_type(system, dict, "system"):
        yield f"{wrong}: a persona needs system.text"
        return
    assert isinstance(system, dict)
    yield from _unknown(system, _SYSTEM_KEYS, "system.")
    yield from _text(system.get("text"), "system.text")


def _text(text: object, key: str) -> Iterator[str]:
    if wrong := _wrong_type(text, str, key):
        yield wrong
        return
    assert isinstance(text, str)
    if not text.strip():
        yield f"{key} is empty"
    if neutralise(text) != text:
        yield f"{key} holds a control mark of a chat template, such as <|im_end|>: write it without"
    if character := next(filter(_is_control, text), ""):
        yield f"{key} holds the control character U+{ord(character):04X}: remove it"


def _is_control(character: str) -> bool:
    return unicodedata.category(character) == "Cc" and character not in "\n\t\r"


# Facts


def _facts(facts: object) -> Iterator[str]:
    if wrong := _wrong_type(facts, list, "facts"):
        yield f"{wrong}; write each fact under [[facts]]"
        return
    assert isinstance(facts, list)
    seen: dict[str, int] = {}
    for number, fact in enumerate(facts):
        key = f"facts[{number}]"
        if wrong := _wrong_type(fact, dict, key):
            yield f"{wrong}; write each fact under [[facts]]"
            continue
        yield from _unknown(fact, _FACT_KEYS, f"{key}.")
        yield from _date(fact.get("date"), f"{key}.date")
        yield from _topic(fact.get("topic"), f"{key}.topic")
        yield from _text(fact.get("text"), f"{key}.text")
        if isinstance(text := fact.get("text"), str) and text.strip():
            first = seen.setdefault(_words(text), number)
            if first != number:
                yield f"{key}.text says the same as facts[{first}].text: keep one of them"


def _date(value: object, key: str) -> Iterator[str]:
    if isinstance(value, date | int) and not isinstance(value, bool):
        yield f'{key} is {value} without quotes; write "{value}"'
        return
    if wrong := _wrong_type(value, str, key):
        yield wrong
        return
    assert isinstance(value, str)
    match = _DATE.fullmatch(value)
    if not match:
        yield f"{key} is {_shown(value)}; write YYYY, YYYY-MM or YYYY-MM-DD"
        return
    try:
        date(int(match[1]), int(match[2] or 1), int(match[3] or 1))
    except ValueError:
        yield f"{key} is {value!r}, which is no day of the calendar"


def _topic(topic: object, key: str) -> Iterator[str]:
    if wrong := _wrong_type(topic, str, key):
        yield wrong
    elif not _TOPIC.fullmatch(str(topic)):
        yield f"{key} is {_shown(topic)}; use a word such as family, work or friends"


# Shown


def _words(text: str) -> str:
    """The words of a text, by which duplicate facts are found; punctuation is ignored."""
    return " ".join(re.findall(r"\w+", _folded(text)))


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _shown(value: object) -> str:
    shown = _printable(repr(value))
    return shown if len(shown) <= 60 else shown[:59] + "…"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)
