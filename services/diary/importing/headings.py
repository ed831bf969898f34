"""Headings of Markdown that are dates, with or without a title behind the date."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from services.diary.importing.lines import Line
from services.diary.when import When, read_when

_LONGEST = 500  # characters
_HEADING = re.compile(r"(#{1,6})[ \t]+(.*?)(?:[ \t]+#*)?[ \t]*")
_TITLED = (
    re.compile(r"(.*?),?(?:: | [-–—|] )(.+)"),
    re.compile(r"(\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?)?),? +(.+)"),
)
_DAY = r"\d{1,2}(?:st|nd|rd|th)?,? (?:of )?"
_LIKE_A_DATE = re.compile(
    r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}(?!\d).*|"
    rf"(?:(?:mon|tues|wednes|thurs|fri|satur|sun)day,? )?(?:the )?(?:{_DAY})?"
    rf"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?,? (?:{_DAY})?'?\d{{1,4}}(?:st|nd|rd|th)?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Heading:
    """A heading that is a date, or one that is meant to be and has a flaw; levels as in Markdown."""

    line: int
    level: int
    date: str = ""
    title: str = ""
    span: When | None = None
    flaw: str = ""
    has_cr: bool = False  # whether its line ends as Windows has it

    def holds(self, other: "Heading") -> bool:
        """Whether `other` is no date but a title within this day, like "## 1984" under "# 2023-05-08"."""
        if self.span is None or other.span is None or other.level <= self.level:
            return False
        return self.span.first_day == self.span.last_day and other.span.first_day != other.span.last_day


def heading_of(line: Line) -> Heading | None:
    """The dated heading that a line is."""
    text = line.text.rstrip("\r\n")
    heading = _HEADING.fullmatch(text) if len(text) <= _LONGEST else None
    if heading is None:
        return None
    level, has_cr = len(heading[1]), line.text.endswith("\r\n")
    today, flaw = datetime.now(UTC).date(), ""
    for date, title in _readings(heading[2]):
        try:
            return Heading(line.number, level, date, title, read_when(date, today), has_cr=has_cr)
        except ValueError as error:
            if not flaw and _LIKE_A_DATE.fullmatch(date):
                flaw = f"date: {error}"
    return Heading(line.number, level, flaw=flaw, has_cr=has_cr) if flaw else None


def _readings(heading: str) -> Iterator[tuple[str, str]]:
    """A heading as a date, and as a date with a title."""
    yield heading, ""
    for form in _TITLED:
        if titled := form.fullmatch(heading):
            yield titled[1], titled[2]
