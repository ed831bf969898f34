"""The days that a question names: "on 5 May 2023", "last spring", "on my birthday", "two weeks ago".

English alone. Phrases are found by the grammar below; a date is then read as an entry's own is, and what
counts from today by dateparser. What can be read in two ways (05/06/2023), names no day (31 November) or is
not in the grammar ("back then") is passed over: a date that is not understood must cost nothing. So is a word
that only looks like a date: services/diary/recall/date_words.py.

The work is bounded, whatever is asked: MOST_CHARACTERS are read and MOST_DAYS spans are found.
"""

import calendar
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date as Date
from datetime import datetime, time, timedelta
from functools import partial

from dateparser.date import DateDataParser

from services.diary.date_names import DAY_NAMES, MONTH_NAMES
from services.diary.dates import parse_date
from services.diary.index import bm25
from services.diary.recall import date_words

MAX_CHARACTERS = 2_000  # of a question: MiniLM reads about 1,000 of them
MAX_MENTIONS = 8  # each is a search of its own
_MONTHS = "|".join((*MONTH_NAMES, *(name[:3] for name in MONTH_NAMES), "Sept"))
_SEASONS = "spring|summer|autumn|fall|winter"
_YEAR = r"(?:1\d{3}|2\d{3})"
_NTH = r"\d{1,2}(?:st|nd|rd|th)?"
_DAY = rf"(?:(?:the )?{_NTH} (?:of )?(?:{_MONTHS})|(?:{_MONTHS}) (?:the )?{_NTH})"
_DATED = rf"(?:(?:{_DAY}|{_MONTHS}|{_SEASONS}),? (?:of |in )?{_YEAR}|{_YEAR}-\d\d(?:-\d\d)?)"
_COUNT = r"\d{1,3}|an?|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|(?:a )?couple of"
_COUNTED = rf"(?P<count>the|{_COUNT}) (?P<unit>(?:day|week|month|year)s?)"
_WHICH = r"(?P<which>last|this|in|during|over|since|that|of|early|late) (?:the )?"
_WHOSE = rf",? (?:of |in )?(?P<year>{_YEAR}|last year|this year)"
_FEASTS = {
    "new year's day": "1 January",
    "valentine's day": "14 February",
    "halloween": "31 October",
    "christmas eve": "24 December",
    "christmas": "25 December",
    "boxing day": "26 December",
    "new year's eve": "31 December",
}
_FROM_TODAY = re.compile(r"\b(?:ago|yesterday|today|tonight|this morning|last night)$", re.IGNORECASE)
_NAME = rf"(?P<name>{_MONTHS}|{_SEASONS})"
_NUMBER = r"\d{1,2}(?P<nth>st|nd|rd|th)?"
_ALONE, _DAY_FIRST, _MONTH_FIRST, _WITH_YEAR, _YEAR_LAST = (
    re.compile(form, re.IGNORECASE)
    for form in (
        rf"(?P<which>last|this|in|during|over|since|that|of|early|late) (?P<the>the )?{_NAME}",
        rf"(?P<lead>{_WHICH})?(?:the )?{_NUMBER} (?P<joint>of )?{_NAME}",
        rf"(?P<lead>{_WHICH})?{_NAME} (?P<joint>the )?{_NUMBER}",
        rf"{_NAME}(?P<joint>,? (?:of |in )?)(?:{_YEAR}|(?P<relative>last year|this year))",
        rf".*(?<![-\d]){_YEAR}",
    )
)
_WITH_DAY = {_DAY_FIRST: date_words.month_behind_day, _MONTH_FIRST: date_words.month_before_day}
# Words that ask of a time and of nothing else in it.
_ABOUT_ANYTHING = frozenset(
    bm25.query_vector(
        "happen happened going go went like up be been remember recall think tell told write wrote written "
        "say day days date time times week weekend month year season life diary entry entries note notes "
        "anything something everything thing things back around about please new news get spend spent"
    ).indices
)
_LEAP = 8  # years, within which every day of the calendar occurs, 29 February too


@dataclass(frozen=True)
class DateMention:
    """A phrase of a question and the days that it means, first and last."""

    phrase: str
    first: Date
    last: Date


Span = tuple[Date, Date]
Reading = Callable[[re.Match[str], Date], Span | None]


class QueryDates:
    """Reads questions. `birthday` is the diarist's, month and day; without it birthdays mean nothing."""

    def __init__(self, birthday: tuple[int, int] | None = None) -> None:
        rules = list(_RULES)
        if birthday:
            born = f"{birthday[1]} {MONTH_NAMES[birthday[0] - 1]}"
            rules.insert(0, (rf"(?:my|your)(?: last)? birthday(?:{_WHOSE})?", partial(_on_birthday, born)))
        self._rules = [(re.compile(rf"\b(?:{form})\b", re.IGNORECASE), reading) for form, reading in rules]
        self.read("yesterday", Date(2000, 1, 1))  # dateparser takes 0.1 s when it is first asked

    def read(self, question: str, as_of: Date) -> list[DateMention]:
        """The days that are named, as they are meant on the day `as_of`, each span once."""
        rest = _plain(question)
        found: dict[Span, DateMention] = {}
        tried: set[str] = set()
        for form, reading in self._rules:
            last, pieces = 0, []
            for phrase in form.finditer(rest):
                if _is_date(phrase[0], rest[: phrase.start()], rest[phrase.end() :]):
                    is_new = phrase[0].casefold() not in tried
                    tried.add(phrase[0].casefold())
                    if is_new and len(found) < MAX_MENTIONS and (span := _tried(reading, phrase, as_of)):
                        found.setdefault(span, DateMention(phrase[0], *span))
                    # What is read is not read again as something shorter.
                    pieces += [rest[last : phrase.start()], "|"]
                    last = phrase.end()
            rest = "".join([*pieces, rest[last:]])
        return list(found.values())


def truncate_query(question: str) -> str:
    """What is searched for of a question: of a long one its beginning and its end.

    A person who pastes a page asks about it in front of it or behind it.
    """
    if len(question) <= MAX_CHARACTERS:
        return question
    half = MAX_CHARACTERS // 2 - 2
    return f"{question[:half]} … {question[-half:]}"


def bm25_text(question: str, named: Sequence[DateMention]) -> str:
    """The question for a search by words: each day, month or year that is named is spelled out at its end.

    What only counts from today is taken out, since no entry says "two weeks ago" of its own day. "Last
    summer" stays: another entry may well have said so. Measured in docs/measurements/diary.md.
    """
    text = _plain(question)
    for days in named:
        if _FROM_TODAY.search(days.phrase):
            text = text.replace(days.phrase, " ")
    return " ".join([text, *(bm25.spell_out_days(days.first, days.last) for days in named)])


def is_only_about_dates(question: str, named: Sequence[DateMention]) -> bool:
    """Whether a question asks of nothing but the days that it names: "What did you do last spring?"."""
    text = _plain(question)
    for days in named:
        text = text.replace(days.phrase, " ")
    return bool(named) and set(bm25.query_vector(text).indices) <= _ABOUT_ANYTHING


def _plain(question: str) -> str:
    return re.sub(r"\s+", " ", truncate_query(question).replace("’", "'"))


def _is_date(phrase: str, before: str, after: str) -> bool:
    """Whether the words of a phrase are those of a date where they stand."""
    if _YEAR_LAST.fullmatch(phrase) and date_words.counts_something(after):
        return False
    if found := _WITH_YEAR.fullmatch(phrase):
        # "you may in 2019", "did you fall last year" are not "May in 2019", "fall last year"
        apart = "in" in found["joint"] or (bool(found["relative"]) and "of" not in found["joint"])
        return not apart or date_words.month_before_year(found["name"], before)
    if found := _ALONE.fullmatch(phrase):
        which = found["which"].casefold()
        return date_words.alone(found["name"], which, bool(found["the"]), before, after)
    for form, is_month in _WITH_DAY.items():
        if found := form.fullmatch(phrase):
            lead = f"{before}{found['lead'] or ''}"
            return is_month(found["name"], bool(found["nth"]), bool(found["joint"]), lead, after)
    return True


def _tried(reading: Reading, phrase: re.Match[str], as_of: Date) -> Span | None:
    try:
        return reading(phrase, as_of)
    except (ValueError, OverflowError):  # no day of the calendar, or none that a diary can hold
        return None


def _written(text: str, as_of: Date) -> Span:
    """A date with its year, as that of an entry. Raises ValueError."""
    when = parse_date(re.sub(r",? in (?=\d{4}$)| the ", " ", text), as_of)
    return Date.fromisoformat(when.first_day), Date.fromisoformat(when.last_day)


def _yearly(phrase: str, year: str | None, which: str, as_of: Date) -> Span | None:
    """What comes every year: that of the year which is named, else the latest that has begun or is over."""
    if year or which == "this":
        ago = {"last": 1, "this": 0}.get((year or which)[:4].lower())
        return _written(f"{phrase} {year if ago is None else as_of.year - ago}", as_of)
    for number in range(as_of.year, as_of.year - _LEAP - 1, -1):
        span = _of_year(phrase, number, as_of)
        if span and (span[1] < as_of or (which != "last" and span[0] <= as_of)):
            return span
    return None


def _of_year(phrase: str, year: int, as_of: Date) -> Span | None:
    try:
        return _written(f"{phrase} {year}", as_of)
    except ValueError:
        return None  # 29 February


def _counted(text: str, as_of: Date) -> Span | None:
    """What dateparser counts from `as_of`: a day, a month, a year, or a week with the day in its middle."""
    settings = {"RELATIVE_BASE": datetime.combine(as_of, time(12)), "PREFER_DATES_FROM": "past"}
    found = DateDataParser(languages=["en"], settings=settings).get_date_data(text)
    if not found or not found.date_obj:
        return None
    day: Date = found.date_obj.date()
    match found.period:
        case "year":
            return day.replace(month=1, day=1), day.replace(month=12, day=31)
        case "month":
            return day.replace(day=1), day.replace(day=calendar.monthrange(day.year, day.month)[1])
        case "week":
            return day - timedelta(3), day + timedelta(3)
        case _:
            return day, day


def _ago(phrase: re.Match[str], as_of: Date) -> Span | None:
    count = {"the": "1", "couple of": "2", "a couple of": "2"}.get(phrase["count"].lower(), phrase["count"])
    return _counted(f"{count} {phrase['unit']} ago", as_of)


def _before(phrase: re.Match[str], as_of: Date) -> Span | None:
    return _ago(phrase, _written(phrase["anchor"], as_of)[0])


def _until_now(phrase: re.Match[str], as_of: Date) -> Span | None:
    span = _ago(phrase, as_of)
    return span and (span[0], as_of)


def _between(phrase: re.Match[str], as_of: Date) -> Span | None:
    first, last = _written(phrase["first"], as_of)[0], _written(phrase["last"], as_of)[1]
    return (first, last) if first <= last else None


def _decade(phrase: re.Match[str], _as_of: Date) -> Span:
    year = int(phrase["decade"])
    return Date(year, 1, 1), Date(year + 9, 12, 31)


def _weekend(phrase: re.Match[str], as_of: Date) -> Span:
    """This week's, or the last one that is over."""
    saturday = as_of + timedelta(5 - as_of.weekday())
    if phrase["which"].lower() != "this" and saturday + timedelta(1) >= as_of:
        saturday -= timedelta(7)
    return saturday, saturday + timedelta(1)


def _week(phrase: re.Match[str], as_of: Date) -> Span:
    """From Monday to Sunday."""
    weeks = 0 if phrase["which"].lower() == "this" else 1
    monday = as_of - timedelta(as_of.weekday() + 7 * weeks)
    return monday, monday + timedelta(6)


def _on_birthday(born: str, phrase: re.Match[str], as_of: Date) -> Span | None:
    return _yearly(born, phrase["year"], "", as_of)


def _in_full(phrase: re.Match[str], as_of: Date) -> Span:
    return _written(phrase["date"], as_of)


def _relative(phrase: re.Match[str], as_of: Date) -> Span | None:
    return _counted(phrase["said"], as_of)


def _of_the_year(phrase: re.Match[str], as_of: Date) -> Span | None:
    named, which = phrase.groupdict(), (phrase.groupdict().get("which") or "").lower()
    return _yearly(_FEASTS.get(named["what"].lower(), named["what"]), named.get("year"), which, as_of)


# Longer phrases before the shorter ones that they contain.
_RULES: list[tuple[str, Reading]] = [
    (rf"{_COUNTED} before (?P<anchor>{_DATED})", _before),
    (
        rf"(?:between|from) (?P<first>{_DATED}|{_YEAR}) (?:and|to|until|till) (?P<last>{_DATED}|{_YEAR})",
        _between,
    ),
    (rf"(?P<date>{_DATED})", _in_full),
    (rf"(?P<what>{_DAY}|{_MONTHS}|{_SEASONS}|{'|'.join(_FEASTS)}){_WHOSE}", _of_the_year),
    (rf"(?:{_WHICH})?(?P<what>{_DAY}|{'|'.join(_FEASTS)})", _of_the_year),
    (rf"{_WHICH}(?P<what>{_MONTHS}|{_SEASONS})", _of_the_year),
    (r"the (?P<decade>[12]\d\d0)s", _decade),
    (rf"(?:in|during|since|around|of|from|by|until|year|back in) (?P<date>{_YEAR})", _in_full),
    (rf"(?:in|over|during|for) the (?:last|past) {_COUNTED}", _until_now),
    (rf"{_COUNTED} ago", _ago),
    (r"(?P<which>last|this|this past) weekend", _weekend),
    (r"(?P<which>last|this) week", _week),
    (r"(?P<said>(?:last|this) (?:month|year))", _relative),
    (r"(?P<said>the day before yesterday|yesterday|today|tonight|this morning|last night)", _relative),
    (rf"(?:on|last|this) (?P<said>{'|'.join(DAY_NAMES)})", _relative),
]
