"""A row of a file that is handed in: an entry to be written, or the reason why it is none."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from services.diary.entry import EntryDraft
from services.errors import EntryRejected
from services.tabular.lines import Limit

# No longer row is held: 32 KiB of text written as \uXXXX are 192 KiB.
LIMIT = Limit(1 << 20, "it is longer than 1 MiB: an entry has at most 32 KiB of text, split it")

_NAMES = tuple(EntryDraft.model_fields)
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
# What an export says about an entry beside what makes it up: nobody misses it when it comes back.
_EXPORTED = {"version", "written_at", "source", "origin"}
# How others call the day of an entry, without case and marks between words. A row that has its day under such
# a name and no `date` is refused: it would get the day of the import.
_OTHER_DATE_WORDS = (
    "creationdate created createdat createdon datecreated timestamp datetime day fulldate entrydate "
    "journaldate postedat publishedat writtenon when datum fecha giorno jour"
)
_OTHER_DATES = frozenset(_OTHER_DATE_WORDS.split())
_NOT_A_LETTER = str.maketrans("", "", "_- .")


@dataclass(frozen=True)
class Row:
    """An entry that can be written, and the names of those of its fields that a diary does not keep."""

    line: int
    draft: EntryDraft
    ignored: frozenset[str] = frozenset()
    file: str = ""  # of an archive


@dataclass(frozen=True)
class Reject:
    """A row that is no entry: the line where it begins, counted from 1, and why."""

    line: int
    reason: str
    file: str = ""  # of an archive


def row_of(line: int, fields: Mapping[str, Any]) -> Row | Reject:
    """The entry that a row's fields make. The seed's `content` is `text`; what is empty was left out.

    An id that is none of ours is left out too: another program's ids must not cost the entry.
    """
    given = {name: value for name, value in fields.items() if value not in (None, "")}
    known = {name: given[name] for name in _NAMES if name in given}
    known.setdefault("text", given.get("content"))
    if known["text"] is None:
        return Reject(line, "it has no text: each row needs a `text` (or `content`)")
    if "date" not in known and (other := _other_date(given)):
        return Reject(line, f"its date stands under {other[:64]!r}, which is not read: call it `date`")
    known |= {name: str(known[name]) for name in ("date", "id") if type(known.get(name)) is int}
    ignored = (
        set(map(str, fields)) - set(_NAMES) - _EXPORTED - ({"content"} if "text" not in given else set())
    )
    if "id" in known and not _ID.fullmatch(str(known["id"])):
        del known["id"]
        ignored.add("id")
    try:
        return Row(line, EntryDraft.model_validate(known), frozenset(ignored))
    except ValidationError as error:
        return Reject(line, str(rejection(error)))


def _other_date(given: Mapping[str, Any]) -> str:
    """The field that has the date under another name, if there is one."""
    for name in map(str, given):
        if len(name) <= 20 and name.lower().translate(_NOT_A_LETTER) in _OTHER_DATES:
            return name
    return ""


def rejection(error: ValidationError) -> EntryRejected:
    """What is wrong with a draft, in one sentence that names the field."""
    first = error.errors(include_input=False)[0]
    param = ".".join(map(str, first["loc"])) or None
    return EntryRejected(f"{param or 'the body'}: {first['msg'].removeprefix('Value error, ')}", param)
