"""Entries of other programs as the fields of a row: Day One's, jrnl's and Logseq's JSON, Daylio's CSV.

A field that a diary does not keep stays under its own name, so that the import tells it.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from services.diary.transfer.date_spelling import normalize_date

Fields = Mapping[str, Any]
_MOMENT_MARK = re.compile(r"!\[[^\[\]\n]*\]\(dayone-moment:[^()\n]*\)[ \t]*\n?")
_ESCAPED = re.compile(r"\\([\\`*_{}\[\]()#+\-.!~>|&<=^$:/\"'])")
_HIDDEN_PROPERTY = re.compile(r"^(?:id|collapsed|created-at|updated-at):: .*\n?", re.MULTILINE)
_MOST_BLOCKS = 10_000  # of a page of Logseq's, and so many levels deep at most:
_DEEPEST = 100


def as_row(fields: Fields) -> Fields:
    """The fields of an object of any of these programs; those of others as they are.

    Raises ValueError that says what is wrong.
    """
    if "creationDate" in fields and not fields.get("date"):
        return _day_one(fields)
    if {"title", "body", "date"} <= fields.keys():
        return _jrnl(fields)
    if "page-name" in fields or ("block/page-name" in fields):
        return _logseq(fields)
    return fields


def _day_one(fields: Fields) -> Fields:
    rest = {name: value for name, value in fields.items() if name not in ("creationDate", "timeZone", "uuid")}
    text = fields.get("text")
    if isinstance(text, str):
        rest["text"] = _ESCAPED.sub(r"\1", _MOMENT_MARK.sub("", text)).strip()
    return {**rest, "date": _local(fields["creationDate"], fields.get("timeZone")), "id": fields.get("uuid")}


def _local(moment: object, zone: object) -> str:
    """A moment as the clock showed it in the zone where it was written."""
    try:
        utc = datetime.fromisoformat(str(moment))
    except ValueError:
        raise ValueError(f"creationDate: {str(moment)[:40]!r} is no moment in ISO 8601") from None
    utc = utc if utc.tzinfo else utc.replace(tzinfo=UTC)
    if not zone:
        return utc.isoformat()
    try:
        return utc.astimezone(ZoneInfo(str(zone))).isoformat()
    except (ValueError, OSError, KeyError, OverflowError):  # what is no name, a folder, or nowhere
        raise ValueError(
            f"timeZone: {str(zone)[:40]!r} is no zone that is known: write one like Europe/Paris"
        ) from None


def _jrnl(fields: Fields) -> Fields:
    rest = {n: v for n, v in fields.items() if n not in ("title", "body", "time", "date", "tags")}
    title, body = str(fields["title"] or "").strip(), str(fields["body"] or "").strip("\n")
    moment = f"{fields['date']} {fields['time']}" if fields.get("time") else fields["date"]
    tags = fields.get("tags")
    if isinstance(tags, list):
        tags = [tag.lstrip("@") if isinstance(tag, str) else tag for tag in tags]
    text = "\n".join(filter(None, (title, body)))
    return {**rest, "text": text, "date": _spelled(moment), "tags": tags}


def _logseq(fields: Fields) -> Fields:
    page = str(fields.get("page-name") or fields.get("block/page-name") or "")
    date = _spelled(page)
    blocks = fields.get("children") or fields.get("block/children") or []
    rest = {
        name: value
        for name, value in fields.items()
        if name.removeprefix("block/") not in ("page-name", "children", "id", "format", "properties")
    }
    return {**rest, "text": "\n".join(_outline(blocks)), "date": date}


def _outline(blocks: object) -> Iterator[str]:
    """Blocks as Logseq's own Markdown has them; one after the other, without a call for each level."""
    waiting = [(block, 0) for block in reversed(blocks)] if isinstance(blocks, list) else []
    for _ in range(_MOST_BLOCKS):
        if not waiting:
            return
        block, depth = waiting.pop()
        if not isinstance(block, dict) or depth > _DEEPEST:
            continue
        content = block.get("content") or block.get("block/content") or ""
        content = _HIDDEN_PROPERTY.sub("", str(content)).strip("\n")
        yield "\t" * depth + "- " + content.replace("\n", "\n" + "\t" * depth + "  ")
        children = block.get("children") or block.get("block/children") or []
        if isinstance(children, list):
            waiting += [(child, depth + 1) for child in reversed(children)]
    if waiting:
        raise ValueError(f"the page has more than {_MOST_BLOCKS} blocks: split it")


def _spelled(date: object) -> object:
    return normalize_date(date.strip()) if isinstance(date, str) else date


DAYLIO = {"full_date", "note", "activities"}  # of the columns that its export has always had


def daylio(cells: Mapping[str, str]) -> Fields:
    """A record of Daylio's: `full_date` and `time`, `mood`, `activities`, and the note with its title."""
    known = ("full_date", "date", "weekday", "time", "activities", "note_title", "note")
    rest = {name: value for name, value in cells.items() if name not in known}
    day, time = cells.get("full_date", "").strip(), cells.get("time", "").strip()
    note = [part for name in ("note_title", "note") if (part := cells.get(name, "").strip())]
    tags = [tag.strip() for tag in re.split(r"[|;]", cells.get("activities", "")) if tag.strip()]
    moment = normalize_date(f"{day} {time}") if day and time else normalize_date(day)
    return {**rest, "date": moment, "text": "\n".join(note).replace("<br>", "\n"), "tags": tags}
