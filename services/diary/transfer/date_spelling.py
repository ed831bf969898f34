"""Dates as other programs and people spell them.

`normalize_date` converts the forms of Obsidian, Logseq, jrnl and Daylio to those of `services.diary.dates`.
`likeness` judges whether a heading that can't be read is meant as a date: it has to be reported, because the
text under it would become text of the day before.
"""

import re
from datetime import date as Date
from enum import IntEnum
from itertools import pairwise

from services.diary.date_names import (
    DAY_NAMES,
    FOREIGN_MONTHS,
    FOREIGN_WEEKDAYS,
    MONTHS,
    WEEKDAYS,
    alternatives,
)

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
_LONGEST = 80  # characters of a heading that is a date as a whole
_TOKEN = re.compile(r"\d+|[^\W\d_]+")
_JOINED = re.compile(r"\d{1,4}[-/._]\d{1,2}[-/._]\d{1,4}(?!\d)", re.ASCII)
_YEAR_AND_NUMBER = re.compile(r"\d{4}[-/._]w?\d{1,2}", re.ASCII | re.IGNORECASE)
_DAY_WITHIN = re.compile(
    r"(?<!\d)(?:\d{4}[-/._]\d{1,2}[-/._]\d{1,2}|\d{1,2}[-/._]\d{1,2}[-/._]\d{4})(?!\d)", re.ASCII
)
_CJK = re.compile(r"\d{1,2}\s?[月월]\s?\d{1,2}\s?[日일号]")
_SEASONS = {"spring", "summer", "autumn", "fall", "winter"}
_MONTHS = MONTHS.keys() | FOREIGN_MONTHS
_WEEKDAYS = WEEKDAYS.keys() | FOREIGN_WEEKDAYS
_NEAR = {"today", "yesterday", "heute", "gestern", "hier", "hoy", "ayer"}
_BESIDE_WORDS = (
    "st nd rd th er of the on in at am pm a p m t z utc gmt uhr h w week kw day date year year's "
    "de del den der dem des le la les el il do da dos du d l o og av kl um vom г года r roku"
)
_BESIDE = frozenset(_BESIDE_WORDS.split())


class Likeness(IntEnum):
    """How much a heading is like a date; PARTLY is for words that may be a title, too."""

    NOT = 0
    PARTLY = 1
    WHOLLY = 2


def normalize_date(text: str) -> str:
    """The date in the spelling of `services.diary.dates`; any other text is returned unchanged.

    Obsidian and Logseq name their notes 2023-05-09, 2023_05_09 or 20230509; jrnl and Daylio have a time of
    day with AM or PM; many write the weekday next to an ISO date. Raises ValueError when that weekday
    is wrong.
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


def likeness(text: str) -> Likeness:
    """How much a heading, without its marks, is like a date."""
    if _CJK.search(text[:_LONGEST]):
        return Likeness.WHOLLY
    tokens = [token.lower() for token in _TOKEN.findall(text)] if len(text) <= _LONGEST else []
    if tokens and all(map(_is_of_a_date, tokens)):
        return _of_date_words(text, tokens)
    if _JOINED.match(text):
        return Likeness.WHOLLY
    if _DAY_WITHIN.search(text) or _has_day_and_month(tokens):
        return Likeness.PARTLY
    return Likeness.NOT


def _is_of_a_date(token: str) -> bool:
    if token.isdecimal():
        return len(token) in (1, 2, 4, 6, 8, 12, 14)
    return token in _MONTHS or token in _WEEKDAYS or token in _BESIDE or token in _SEASONS or token in _NEAR


def _of_date_words(text: str, tokens: list[str]) -> Likeness:
    numbers = [token for token in tokens if token.isdecimal()]
    named = any(token in _MONTHS or token in _WEEKDAYS or token in _SEASONS for token in tokens)
    if named and numbers:
        return Likeness.WHOLLY
    if len(numbers) >= 3 or _YEAR_AND_NUMBER.search(text) or any(len(n) >= 8 for n in numbers):
        return Likeness.WHOLLY
    return Likeness.PARTLY if named or numbers or _NEAR.intersection(tokens) else Likeness.NOT


def _has_day_and_month(tokens: list[str]) -> bool:
    """Whether a number and the name of a month stand side by side, as in "Sunday dinner, 14 May"."""
    for token, following in pairwise(tokens):
        for number, month in ((token, following), (following, token)):
            if number.isdecimal() and len(number) <= 2 and month in _MONTHS:
                return True
    return False
