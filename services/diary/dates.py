"""Dates of entries: parses a date as people write it, and gives the days that it spans.

Accepted: 1998-05-03, a date and time in ISO 8601, 1998, 1998-05, "May 1998", "spring 1998", "3 May 1998",
"May 3rd, 1998", the last two with a weekday if it is the right one. A date that is ambiguous or unknown is
rejected with a question, and never guessed. Seasons are the northern ones: winter 1998 ends in February 1999.
"""

import calendar
import re
from dataclasses import dataclass
from datetime import date as Date
from datetime import datetime, timedelta

from services.diary.date_names import DAY_NAMES, MONTH_NAMES, MONTHS, WEEKDAYS, alternatives
from services.local_time import IN_UTC, LocalTime

REMEDY = "write YYYY-MM-DD or YYYY-MM-DDTHH:MM:SS+00:00, or YYYY-MM, YYYY, 'May 1998', 'spring 1998'"
_WHICH_CENTURY = f"{{!r}} has a year of two digits, of which century? Write all four: {REMEDY}"
FIRST_YEAR = 1000
LAST_YEAR = 9999
_JULIAN_UNTIL = 1752  # in England: weekdays in older diaries follow the Julian calendar
AHEAD = timedelta(days=366)  # a date further ahead is a slip of the pen
_SEASONS = {"spring": 3, "summer": 6, "autumn": 9, "fall": 9, "winter": 12}  # with their first months

_MONTH = rf"(?P<month>{alternatives(MONTHS)})\.?"
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_WEEKDAY = rf"(?:(?P<weekday>{alternatives(WEEKDAYS)})\.?,? )?"
_YEAR = r"(?P<year>'?\d+)"
_GRAMMAR = [
    re.compile(form, re.ASCII | re.IGNORECASE)
    for form in (
        rf"{_YEAR}(?:-(?P<month>\d\d)(?:-(?P<day>\d\d))?)?",
        rf"(?P<season>{alternatives(_SEASONS)}),? (?:of )?{_YEAR}",
        rf"{_MONTH},? (?:of )?{_YEAR}",
        rf"{_WEEKDAY}{_MONTH} {_DAY},? {_YEAR}",
        rf"{_WEEKDAY}(?:the )?{_DAY} (?:of )?{_MONTH},? {_YEAR}",
    )
]
_EXTENDED = re.compile(r"\d{4}-\d\d-\d\d([T ][0-9:.,+Z-]+)?", re.ASCII)
_NUMBERS = re.compile(r"(\d{1,2})([./-])(\d{1,2})\2(\d{2}|\d{4})", re.ASCII)
_YEAR_FIRST = re.compile(r"(\d{4})([./-])(\d{1,2})\2(\d{1,2})", re.ASCII)


@dataclass(frozen=True)
class DateSpan:
    """The first and last day that a date spans, YYYY-MM-DD. Entries are sorted by `timestamp`."""

    first_day: str
    last_day: str
    timestamp: str  # the first day, with the time of day if the date has one


def parse_date(text: str, today: Date, local: LocalTime = IN_UTC) -> DateSpan:
    """The days of a date as people write it. Raises ValueError with what to write instead.

    A time in UTC belongs to its day in `local`; see LocalTime.wall.
    """
    span = _date_time(text, local) if len(text) > 10 and _EXTENDED.fullmatch(text) else _from_grammar(text)
    if span is None:
        raise ValueError(_question(text))
    latest = Date.max - AHEAD if today > Date.max - AHEAD else today
    if span.first_day > (latest + AHEAD).isoformat():
        raise ValueError(f"{text!r} is more than a year ahead: write the day on which it happened")
    return span


def iso_day(value: str, local: LocalTime) -> Date:
    """The day of a date that `check_iso_date` accepts; a time in UTC is converted to `local` first.

    Raises ValueError.
    """
    return local.wall(datetime.fromisoformat(check_iso_date(value))).date()


def check_iso_date(value: str) -> str:
    """Return `value` if it is an existing day (YYYY-MM-DD) or date and time in ISO 8601.

    Only the extended format is accepted: not 20260102 or 2026-W01-5. Raises ValueError.
    """
    remedy = f"{value!r} is no date of the calendar: write YYYY-MM-DD or YYYY-MM-DDTHH:MM:SS+00:00"
    if not _EXTENDED.fullmatch(value):
        raise ValueError(remedy)
    try:
        _ = Date.fromisoformat(value) if len(value) == 10 else datetime.fromisoformat(value)
    except ValueError:
        raise ValueError(remedy) from None
    return value


def _date_time(text: str, local: LocalTime) -> DateSpan:
    try:
        wall = local.wall(datetime.fromisoformat(text))
    except ValueError:
        raise ValueError(f"{text!r} is no date of the calendar: {REMEDY}") from None
    _check_year(text, wall.year)
    day = wall.date().isoformat()
    return DateSpan(day, day, wall.isoformat(timespec="microseconds"))


def _from_grammar(text: str) -> DateSpan | None:
    for form in _GRAMMAR:
        if match := form.fullmatch(text):
            return _span(text, {name: value.lower() for name, value in match.groupdict().items() if value})
    return None


def _span(text: str, parts: dict[str, str]) -> DateSpan:
    if len(parts["year"].lstrip("'")) < 3:
        raise ValueError(_WHICH_CENTURY.format(text))
    year = int(parts["year"]) if len(parts["year"]) == 4 else 0
    _check_year(text, year)
    if "season" in parts:
        month = _SEASONS[parts["season"]]
        return _days(text, year, month, 3)
    if "month" not in parts:
        return _days(text, year, 1, 12)
    month = MONTHS.get(parts["month"]) or int(parts["month"])
    if not 1 <= month <= 12:
        raise ValueError(f"{text!r} is no date of the calendar, a year has 12 months: {REMEDY}")
    if "day" in parts:
        return _one_day(text, year, month, int(parts["day"]), parts.get("weekday"))
    return _days(text, year, month, 1)


def _days(text: str, year: int, month: int, months: int) -> DateSpan:
    """The span of `months` months, from a month on."""
    end_year, end_month = year + (month + months - 2) // 12, (month + months - 2) % 12 + 1
    _check_year(text, end_year)
    first = f"{year:04}-{month:02}-01"
    last = f"{end_year:04}-{end_month:02}-{calendar.monthrange(end_year, end_month)[1]:02}"
    return DateSpan(first, last, first)


def _one_day(text: str, year: int, month: int, day: int, weekday: str | None) -> DateSpan:
    length = calendar.monthrange(year, month)[1]
    name = f"{MONTH_NAMES[month - 1]} {year}"
    if not 1 <= day <= length:
        raise ValueError(f"{text!r} is no date of the calendar, {name} has {length} days: {REMEDY}")
    date = Date(year, month, day)
    if weekday and year > _JULIAN_UNTIL and WEEKDAYS[weekday] != date.weekday():
        right = DAY_NAMES[date.weekday()]
        raise ValueError(f"{text!r} was a {right}: which is right, the weekday or the day? {REMEDY}")
    return DateSpan(date.isoformat(), date.isoformat(), date.isoformat())


def _check_year(text: str, year: int) -> None:
    if not FIRST_YEAR <= year <= LAST_YEAR:
        raise ValueError(f"{text!r} is no year from {FIRST_YEAR} to {LAST_YEAR}: {REMEDY}")


def _question(text: str) -> str:
    """The question about a date that was not understood."""
    if numbers := _NUMBERS.fullmatch(text):
        a, _, b, year = numbers.groups()
        if len(year) == 2:
            return _WHICH_CENTURY.format(text)
        if ways := _ways(int(a), int(b), int(year)):
            return f"{text!r} is not clear about day and month: write {' or '.join(ways)}"
    if numbers := _YEAR_FIRST.fullmatch(text):
        year, _, month, day = numbers.groups()
        if ways := _ways(int(day), int(month), int(year))[:1]:
            return f"{text!r} is not written as dates are here: write {ways[0]}"
    return f"{text!r} is no date of the calendar: {REMEDY}"


def _ways(a: int, b: int, year: int) -> list[str]:
    """The days that two numbers and a year may mean, day first and month first."""
    ways = []
    for day, month in dict.fromkeys(((a, b), (b, a))):
        if 1 <= month <= 12 and year >= 1 and 1 <= day <= calendar.monthrange(year, month)[1]:
            ways.append(f"{year:04}-{month:02}-{day:02}")
    return ways
