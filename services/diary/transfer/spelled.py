"""Dates as other programs spell them, in the spelling that a diary keeps.

Obsidian and Logseq name their notes 2023-05-09, 2023_05_09 or 20230509; jrnl and Daylio have a time of day
with AM or PM; many write the weekday beside an ISO date. Everything else is left for `services.diary.dates`.
"""

import re
from datetime import date as Date

from services.diary.date_names import DAY_NAMES, WEEKDAYS, alternatives

_PARTS = re.compile(r"(\d{4})_(\d{1,2})_(\d{1,2})", re.ASCII)
_COMPACT = re.compile(r"(1\d{3}|20\d\d)(\d\d)(\d\d)", re.ASCII)
_TIMED = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:T| at |,? )(\d{1,2}):(\d\d)(?::(\d\d))? ?([AaPp])\.?[Mm]\.?", re.ASCII
)
_SHORT_HOUR = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d:\d\d(?::\d\d)?)", re.ASCII)
_DAY = r"\d{4}-\d\d-\d\d"
_NAME = rf"\(?({alternatives(WEEKDAYS)})\.?\)?"
_DAY_FIRST = re.compile(rf"({_DAY}),? ?{_NAME}", re.ASCII | re.IGNORECASE)
_NAME_FIRST = re.compile(rf"{_NAME},? ({_DAY})", re.ASCII | re.IGNORECASE)


def spelled(text: str) -> str:
    """The date in the spelling of `services.diary.dates`, or the text as it is.

    Raises ValueError when a weekday beside an ISO date is the wrong one.
    """
    if parts := _PARTS.fullmatch(text) or _COMPACT.fullmatch(text):
        return f"{parts[1]}-{int(parts[2]):02}-{int(parts[3]):02}"
    if timed := _TIMED.fullmatch(text):
        return _on_24_hours(*timed.groups(default="00")) or text
    if timed := _SHORT_HOUR.fullmatch(text):
        return f"{timed[1]} 0{timed[2]}"
    if named := _DAY_FIRST.fullmatch(text):
        return _with_weekday(text, named[1], named[2])
    if named := _NAME_FIRST.fullmatch(text):
        return _with_weekday(text, named[2], named[1])
    return text


def _on_24_hours(day: str, hour: str, minute: str, second: str, half: str) -> str:
    """The moment as ISO 8601 has it; empty for an hour that no clock of twelve shows."""
    if not 1 <= int(hour) <= 12:
        return ""
    return f"{day} {int(hour) % 12 + (12 if half in 'Pp' else 0):02}:{minute}:{second}"


def _with_weekday(text: str, day: str, name: str) -> str:
    try:
        date_of_day = Date.fromisoformat(day)
    except ValueError:
        return day
    if WEEKDAYS[name.lower()] != date_of_day.weekday():
        right = DAY_NAMES[date_of_day.weekday()]
        raise ValueError(f"{text!r} was a {right}: which is right, the weekday or the day?")
    return day
