"""Markdown headings that are dates, with or without a title, and the sections under them: future entries.

A heading is `# …`, a line that is underlined with === or ---, a line in **bold**, or a block of Logseq's that
is but a date (`- [[May 9th, 2023]]`) with blocks under it. Every pattern reads a line in one pass: none can
match the same blanks in two ways.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

from services.diary.date_names import FOREIGN_MONTHS, MONTHS
from services.diary.dates import DateSpan, parse_date
from services.diary.transfer.date_spelling import Likeness, likeness, normalize_date
from services.diary.transfer.row import LIMIT, Reject, Row, row_of
from services.tabular.lines import Line

MARK = "<!-- ada "  # begins the comment of an export
END = " -->"
_ESCAPED = re.compile(r"\\+#")
_LONGEST_DATE = 80  # characters
_YEAR = re.compile(r"\d{4}|\d[-/.]\d{1,2}[-/.]\d{2}|'\d\d", re.ASCII)
LEAST = 7  # the level of what Markdown has no level for
_SEPARATOR = re.compile(r": | [-–—|] ")
_DATE_FIRST = re.compile(
    r"(\d{4}(?:-\d\d-\d\d|_\d\d_\d\d)(?:[T ]\d{1,2}:\d\d(?::\d\d)?(?: [AaPp][Mm])?)?),? (.+)", re.ASCII
)
_UNDERLINE = re.compile(r" {0,3}(?:=+|--+)[ \t]*\r?\n?")
_BOLD = re.compile(r"(\*\*|__)([^*_\n]{3,80})(?:\1)(.*)")
_BOLD_WITH_PARTS = re.compile(r"(\*\*)([^*\n]{3,80})(?:\1)(.*)")  # 2023_05_09 has the other mark within
_WIKI = re.compile(r"\[\[([^\[\]|]*)(?:\|[^\[\]]*)?\]\]")
_LINK = re.compile(r"\[([^\[\]]*)\]\([^()]*\)")
_STRESSED = re.compile(r"(\*\*|__|[*_`])([^*`\n]{3,80}?)(?:\1)")


@dataclass(frozen=True)
class Heading:
    """A heading that is a date, or one that is meant to be and has a flaw; levels as in Markdown."""

    line: int
    level: int
    date: str = ""
    title: str = ""
    span: DateSpan | None = None
    flaw: str = ""
    is_doubtful: bool = False  # it has a flaw, and may be no date but a title
    has_cr: bool = False  # whether its line ends as Windows has it
    is_underlined: bool = False  # the line below belongs to it

    def holds(self, other: "Heading") -> bool:
        """Whether `other` is no date but a title within this day, like "## 1984" under "# 2023-05-08"."""
        if other.level <= self.level:
            return False
        if other.is_doubtful:
            return self.span is None or self.is_one_day
        return self.is_one_day and other.span is not None and not other.is_one_day

    @property
    def is_one_day(self) -> bool:
        """Whether it is the date of one day, and not of a month or a year."""
        return self.span is not None and self.span.first_day == self.span.last_day


class Section:
    """A dated heading and the lines under it; `fields` are those that stand beside its text."""

    def __init__(self, heading: Heading, fields: Mapping[str, Any] | None = None) -> None:
        self.heading = heading
        self.fields = dict(fields or {})
        self.is_export = False  # it begins with the comment of an export
        self._flaw = heading.flaw
        self._size = 0
        self._lines: list[str] = []
        self._is_blank = True

    def add(self, line: Line) -> None:
        """One more line; of a section that is no entry none are kept."""
        self._size += len(line.text)
        self._flaw = self._flaw or line.flaw or (LIMIT.reason if self._size > LIMIT.size else "")
        if self._is_blank and line.text.strip():
            self._is_blank = False
            self.is_export = line.text.startswith(MARK)
        if self._flaw:
            self._lines.clear()
        elif self.heading.has_cr and line.text.endswith("\r\n"):
            self._lines.append(line.text[:-2] + "\n")
        else:
            self._lines.append(line.text)

    def is_chapter(self, below: Heading) -> bool:
        """Whether it is but a heading over other dated headings."""
        return not self._flaw and self.is_empty and below.level > self.heading.level

    @property
    def is_empty(self) -> bool:
        """Whether nothing stands in it, nor behind the date of its heading."""
        return not self.heading.title and self._is_blank

    def row(self) -> Row | Reject:
        """The entry that the section is."""
        if self._flaw:
            return Reject(self.heading.line, self._flaw)
        if self.is_empty:
            return Reject(self.heading.line, "nothing stands under this heading")
        first = next((n for n, line in enumerate(self._lines) if line.rstrip("\n").strip(" \t")), None)
        text = "".join(self._lines[first:]) if first is not None else ""
        if text.startswith(MARK):
            return self._exported(text)
        text = f"{self.heading.title}\n{text}".removeprefix("\n").rstrip()
        return row_of(self.heading.line, {**self.fields, "date": self.heading.date, "text": text})

    def _exported(self, text: str) -> Row | Reject:
        comment, _, text = text.partition("\n")
        try:
            fields = json.loads(comment.rstrip("\r").removeprefix(MARK).removesuffix(END))
        except (ValueError, RecursionError):
            fields = None
        if not isinstance(fields, dict):
            return Reject(
                self.heading.line, "the comment under this heading is damaged: mend it or delete it"
            )
        text = text.removeprefix("\n").removesuffix("\n").removesuffix("\n")
        text = "\n".join(line[1:] if _ESCAPED.match(line) else line for line in text.split("\n"))
        return row_of(self.heading.line, {**fields, "date": self.heading.date, "text": text})


def heading_of(line: Line, below: Line | None = None, chapter: str = "") -> Heading | None:
    """The dated heading that a line is, with the line below it.

    `chapter` is the year or month whose heading stands above: "## May" and "### 8" are dates there.
    """
    text = line.text.rstrip("\r\n")
    if atx := _atx(text):
        level, words, underlined = *atx, False
    elif below and text and text[:4].strip() and _UNDERLINE.fullmatch(below.text):
        level, words, underlined = 1 if "=" in below.text else 2, text.strip(" \t"), True
    elif bold := _bold(text):
        return _strict(line, *bold)
    elif block := _block(text, below):
        return _strict(line, block, "")
    else:
        return None
    has_cr = line.text.endswith("\r\n")
    return _dated(line.number, level, words, chapter, has_cr, underlined)


def exported_heading(line: Line) -> Heading | None:
    """As in an export, whose texts have no line that begins with # (see ESCAPABLE in markdown.py)."""
    return heading_of(line) if line.text.startswith("#") else None


def heading_of_name(name: str) -> Heading | None:
    """The heading that a note's file name makes; None when the name is not the date of one day.

    Obsidian names its notes 2023-05-08.md, Logseq 2023_05_08.md or May 8th, 2023.md.
    """
    stem = PurePosixPath(name.replace("\\", "/")).stem
    if len(stem) > _LONGEST_DATE:
        return None
    for date in (stem, stem[:10]):  # and 2023-05-08 Monday, 2023-05-08-the-dog
        try:
            date_text = normalize_date(date)
            span = parse_date(date_text, datetime.now(UTC).date())
        except ValueError:
            continue
        if span.first_day == span.last_day:
            return Heading(1, 0, date_text, span=span)
    return None


def _strict(line: Line, words: str, title: str) -> Heading | None:
    """What stands in bold or in a list is a heading only as one day, or when it can't be anything else."""
    heading = _dated(line.number, LEAST, words, "", line.text.endswith("\r\n"), False)
    if heading is None or heading.is_doubtful or (heading.span and not heading.is_one_day):
        return None
    rest = title.lstrip(" \t:–—-").rstrip()
    return replace(heading, title="\n".join(filter(None, (heading.title, rest))))


def _dated(line: int, level: int, words: str, chapter: str, has_cr: bool, underlined: bool) -> Heading | None:
    words, flaw, doubtful = plain(words), "", True
    if likeness(words) is Likeness.NOT and not any(map(str.isdigit, words)):
        return None  # as most are
    today = datetime.now(UTC).date()
    for date, title in _readings(words, chapter):
        like = likeness(date)
        try:
            date = normalize_date(date)
            span = parse_date(date, today)
            return Heading(line, level, date, title, span, has_cr=has_cr, is_underlined=underlined)
        except ValueError as error:
            if like is Likeness.WHOLLY and (doubtful or not flaw):
                flaw, doubtful = f"date: {_what_lacks(date) or error}", False
            elif like is Likeness.PARTLY and not flaw:
                flaw = f"date: {words[:_LONGEST_DATE]!r} seems to name a day: write it as # 2023-05-08: title"
    if not flaw:
        return None
    return Heading(line, level, flaw=flaw, is_doubtful=doubtful, has_cr=has_cr, is_underlined=underlined)


def _what_lacks(date: str) -> str:
    """What is wrong with a date that its general refusal would not say."""
    if not _YEAR.search(date):
        return f"{date!r} has no year, or one of two digits: write it as 2023-05-08, or 8 May 2023"
    if FOREIGN_MONTHS.intersection(re.findall(r"[^\W\d_]+", date.lower())):
        return f"{date!r} has a month that is not English: write it as 2023-05-08, or 8 May 2023"
    return ""


def _atx(text: str) -> tuple[int, str] | None:
    """Level and words of a line that begins with one to six #."""
    stripped = text.lstrip(" ")
    words = stripped.lstrip("#")
    level = len(stripped) - len(words)
    if len(text) - len(stripped) > 3 or not 1 <= level <= 6 or words[:1] not in (" ", "\t"):
        return None
    words = words.strip(" \t")
    closed = words.rstrip("#")
    return level, closed.rstrip(" \t") if closed.endswith((" ", "\t")) or not closed else words


def _bold(text: str) -> tuple[str, str] | None:
    match = _BOLD.fullmatch(text) or _BOLD_WITH_PARTS.fullmatch(text)
    return (match[2].strip().rstrip(":"), match[3]) if match else None


def _block(text: str, below: Line | None) -> str:
    """The words of a block that has blocks of its own, if they are a link or a heading."""
    if below is None or below.text[:1] not in ("\t", " ") or not text.startswith("- "):
        return ""
    words = text[2:].strip()
    if atx := _atx(words):
        return atx[1]
    return words if _WIKI.fullmatch(words) else ""


def plain(words: str) -> str:
    """A heading's words without what makes all of them, or their beginning, bold, a link, or code."""
    for form in (_WIKI, _LINK, _STRESSED):
        if match := form.match(words):
            words = match[match.lastindex or 1] + words[match.end() :]
    if words.startswith("[") and words.endswith("]"):
        words = words[1:-1].strip()
    return words.rstrip(":")


def _readings(words: str, chapter: str) -> Iterator[tuple[str, str]]:
    """A heading as a date, and as a date with a title."""
    if chapter and (date := _within(words, chapter)):
        yield date, ""
    if len(words) <= _LONGEST_DATE:
        yield words, ""
    if (match := _SEPARATOR.search(words, 0, _LONGEST_DATE)) and match.end() < len(words):
        yield words[: match.start()].removesuffix(","), words[match.end() :]
    if match := _DATE_FIRST.fullmatch(words):
        yield match[1], match[2].lstrip(" ")


def _within(words: str, chapter: str) -> str:
    """The date of "May" in the year 2023, or of "8" in May 2023."""
    if words.lower() in MONTHS and len(chapter) == 4:
        return f"{words} {chapter}"
    if len(words) <= 2 and words.isascii() and words.isdecimal() and len(chapter) > 4:
        return f"{words} {chapter}"
    return ""
