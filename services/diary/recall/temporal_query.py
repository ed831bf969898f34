"""The days that a question names: "on 5 May 2023", "last spring", "on my birthday", "two weeks ago".

English only. Phrases are matched by the grammar below. An absolute date is then parsed like the date of an
entry, a relative one by dateparser. Ambiguous dates (05/06/2023), days that do not exist (31 November) and
phrases outside the grammar ("back then") are ignored: a date that is not understood must cost nothing. Words
that only look like a date are recognised in services/diary/recall/date_words.py.

The work is bounded: at most MAX_CHARACTERS of a question are read, and at most MAX_MENTIONS are returned.
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

MAX_CHARACTERS = 2_000  # of a question; MiniLM reads about 1,000 of them
MAX_MENTIONS = 8  # each costs a search of its own
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
_WITH_DAY = {_DAY_FIRST: date_words.month_after_day, _MONTH_FIRST: date_words.month_before_day}
# Words of questions that ask about a time and about nothing in particular.
_GENERIC_TERMS = frozenset(
    bm25.query_vector(
        "happen happened going go went like up be been remember recall think tell told write wrote written "
        "say day days date time times week weekend month year season life diary entry entries note notes "
        "anything something everything thing things back around about please new news get spend spent"
    ).indices
)
_LEAP_CYCLE = 8  # years, within which every day of the calendar occurs, even 29 February (1896, 1904)


@dataclass(frozen=True)
class DateMention:
    """A phrase of a question and the first and last day that it means."""

    phrase: str
    first: Date
    last: Date


Span = tuple[Date, Date]
Resolver = Callable[[re.Match[str], Date], Span | None]  # a phrase and today → its days


class QueryDates:
    """Finds the dates that questions mention. Safe to share between threads."""

    def __init__(self, birthday: tuple[int, int] | None = None) -> None:
        """`birthday` is the diarist's month and day; without it "my birthday" is ignored."""
        rules = list(_RULES)
        if birthday:
            born = f"{birthday[1]} {MONTH_NAMES[birthday[0] - 1]}"
            rules.insert(0, (rf"(?:my|your)(?: last)? birthday(?:{_WHOSE})?", partial(_on_birthday, born)))
        self._rules = [
            (re.compile(rf"\b(?:{pattern})\b", re.IGNORECASE), resolver) for pattern, resolver in rules
        ]
        self.parse("yesterday", Date(2000, 1, 1))  # the first use of dateparser takes 0.1 s

    def parse(self, question: str, as_of: Date) -> list[DateMention]:
        """The dates in a question, resolved against the day `as_of`, each span once."""
        rest = _normalize(question)
        mentions: dict[Span, DateMention] = {}
        phrases: set[str] = set()
        for pattern, resolver in self._rules:
            end, unmatched = 0, []
            for phrase in pattern.finditer(rest):
                if _is_date(phrase[0], rest[: phrase.start()], rest[phrase.end() :]):
                    is_new = phrase[0].casefold() not in phrases
                    phrases.add(phrase[0].casefold())
                    if (
                        is_new
                        and len(mentions) < MAX_MENTIONS
                        and (span := _resolve(resolver, phrase, as_of))
                    ):
                        mentions.setdefault(span, DateMention(phrase[0], *span))
                    # A phrase that matched is not matched again as something shorter.
                    unmatched += [rest[end : phrase.start()], "|"]
                    end = phrase.end()
            rest = "".join([*unmatched, rest[end:]])
        return list(mentions.values())


def truncate_query(question: str) -> str:
    """The question, or the beginning and the end of one that is longer than MAX_CHARACTERS.

    People who paste a page ask about it before it or after it.
    """
    if len(question) <= MAX_CHARACTERS:
        return question
    half = MAX_CHARACTERS // 2 - 2
    return f"{question[:half]} … {question[-half:]}"


def bm25_text(question: str, mentions: Sequence[DateMention]) -> str:
    """The question as BM25 searches it: each mentioned day, month or year is spelled out at its end.

    Phrases relative to today are removed, because no entry says "two weeks ago" about its own day. "Last
    summer" stays, because another entry may well say it. Measured in docs/measurements/diary.md.
    """
    text = _normalize(question)
    for mention in mentions:
        if _FROM_TODAY.search(mention.phrase):
            text = text.replace(mention.phrase, " ")
    return " ".join([text, *(bm25.spell_out_days(mention.first, mention.last) for mention in mentions)])


def is_only_about_dates(question: str, mentions: Sequence[DateMention]) -> bool:
    """Whether a question asks about nothing but the dates in it: "What did you do last spring?"."""
    text = _normalize(question)
    for mention in mentions:
        text = text.replace(mention.phrase, " ")
    return bool(mentions) and set(bm25.query_vector(text).indices) <= _GENERIC_TERMS


def _normalize(question: str) -> str:
    return re.sub(r"\s+", " ", truncate_query(question).replace("’", "'"))


def _is_date(phrase: str, before: str, after: str) -> bool:
    """Whether the words of a phrase are a date between the text `before` and `after` it."""
    if _YEAR_LAST.fullmatch(phrase) and date_words.counts_something(after):
        return False
    if match := _WITH_YEAR.fullmatch(phrase):
        # "you may in 2019", "did you fall last year" are not "May in 2019", "fall last year"
        is_loose = "in" in match["joint"] or (bool(match["relative"]) and "of" not in match["joint"])
        return not is_loose or date_words.month_before_year(match["name"], before)
    if match := _ALONE.fullmatch(phrase):
        which = match["which"].casefold()
        return date_words.is_name_alone(match["name"], which, bool(match["the"]), before, after)
    for pattern, is_month in _WITH_DAY.items():
        if match := pattern.fullmatch(phrase):
            lead = f"{before}{match['lead'] or ''}"
            return is_month(match["name"], bool(match["nth"]), bool(match["joint"]), lead, after)
    return True


def _resolve(resolver: Resolver, phrase: re.Match[str], as_of: Date) -> Span | None:
    try:
        return resolver(phrase, as_of)
    except (ValueError, OverflowError):  # no day of the calendar, or none that a diary can hold
        return None


def _absolute(text: str, as_of: Date) -> Span:
    """The days of a date with its year, parsed like an entry's. Raises ValueError."""
    date = parse_date(re.sub(r",? in (?=\d{4}$)| the ", " ", text), as_of)
    return Date.fromisoformat(date.first_day), Date.fromisoformat(date.last_day)


def _yearly(phrase: str, year: str | None, which: str, as_of: Date) -> Span | None:
    """Days that come every year: those of `year`, else the latest that have begun ("last": are over)."""
    if year or which == "this":
        ago = {"last": 1, "this": 0}.get((year or which)[:4].lower())
        return _absolute(f"{phrase} {year if ago is None else as_of.year - ago}", as_of)
    for number in range(as_of.year, as_of.year - _LEAP_CYCLE - 1, -1):
        span = _of_year(phrase, number, as_of)
        if span and (span[1] < as_of or (which != "last" and span[0] <= as_of)):
            return span
    return None


def _of_year(phrase: str, year: int, as_of: Date) -> Span | None:
    try:
        return _absolute(f"{phrase} {year}", as_of)
    except ValueError:
        return None  # 29 February


def _relative_span(text: str, as_of: Date) -> Span | None:
    """Days relative to `as_of`, by dateparser: a day, a month, a year, or a week around its day."""
    settings = {"RELATIVE_BASE": datetime.combine(as_of, time(12)), "PREFER_DATES_FROM": "past"}
    date = DateDataParser(languages=["en"], settings=settings).get_date_data(text)
    if not date or not date.date_obj:
        return None
    day: Date = date.date_obj.date()
    match date.period:
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
    return _relative_span(f"{count} {phrase['unit']} ago", as_of)


def _before(phrase: re.Match[str], as_of: Date) -> Span | None:
    return _ago(phrase, _absolute(phrase["anchor"], as_of)[0])


def _until_now(phrase: re.Match[str], as_of: Date) -> Span | None:
    span = _ago(phrase, as_of)
    return span and (span[0], as_of)


def _between(phrase: re.Match[str], as_of: Date) -> Span | None:
    first, last = _absolute(phrase["first"], as_of)[0], _absolute(phrase["last"], as_of)[1]
    return (first, last) if first <= last else None


def _decade(phrase: re.Match[str], _as_of: Date) -> Span:
    year = int(phrase["decade"])
    return Date(year, 1, 1), Date(year + 9, 12, 31)


def _weekend(phrase: re.Match[str], as_of: Date) -> Span:
    """The weekend of this week, or the last one that is over."""
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
    return _absolute(phrase["date"], as_of)


def _relative(phrase: re.Match[str], as_of: Date) -> Span | None:
    return _relative_span(phrase["relative"], as_of)


def _of_the_year(phrase: re.Match[str], as_of: Date) -> Span | None:
    groups = phrase.groupdict()
    which = (groups.get("which") or "").lower()
    return _yearly(_FEASTS.get(groups["what"].lower(), groups["what"]), groups.get("year"), which, as_of)


# Longer phrases stand before the shorter ones that they contain.
_RULES: list[tuple[str, Resolver]] = [
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
    (r"(?P<relative>(?:last|this) (?:month|year))", _relative),
    (r"(?P<relative>the day before yesterday|yesterday|today|tonight|this morning|last night)", _relative),
    (rf"(?:on|last|this) (?P<relative>{'|'.join(DAY_NAMES)})", _relative),
]
