"""Markdown in which each entry stands under a heading that is its date: `# 2023-05-08`,
`## Monday, May 8, 2023`, `### 8 May 2023: The stray dog`; or a note whose name or front matter is its date.

A heading that names no date belongs to the entry, and so does one that names a year or a month beneath a
day. One that is meant as a date and can't be read is told, with what stands under it. Code in fences is text.
Under its heading an export has a comment with the entry's other fields; there a line that would read as a
heading begins with a backslash, which is taken off, and nothing but # makes a heading.
"""

import re
from collections.abc import Iterator
from typing import BinaryIO

from services.diary.transfer.front_matter import FrontMatter, front_matter
from services.diary.transfer.headings import Heading, Section, exported_heading, heading_of, heading_of_name
from services.diary.transfer.lookahead import Lookahead
from services.diary.transfer.row import LIMIT, Reject, Row
from services.tabular.lines import Line, read_lines

ESCAPABLE = re.compile(r"\\*#")  # a line that begins so is exported with one backslash more
_UNDATED = "it stands before the first heading with a date: write one above it, as # 2023-05-08"


def read_markdown(file: BinaryIO, name: str = "") -> Iterator[Row | Reject]:
    """A row for every dated heading with something under it, and for a note that is named by its date."""
    return _Reading(Lookahead(read_lines(file, LIMIT)), heading_of_name(name)).rows()


class _Reading:
    """One reading of a file."""

    def __init__(self, ahead: Lookahead, named: Heading | None) -> None:
        self._ahead = ahead
        self._section = Section(named) if named else None
        self._is_named = named is not None  # the section has its date from the file's name
        self._chapters: list[Heading] = []  # the years and months that stand above
        self._is_paragraph = False  # the line before has text: what is bold here is no heading

    def rows(self) -> Iterator[Row | Reject]:
        for line in self._ahead:
            yield from self._take(line)
        if self._section and not (self._is_named and self._section.is_empty):
            yield self._section.row()

    def _take(self, line: Line) -> Iterator[Row | Reject]:
        if self._section and self._section.is_export:
            heading = exported_heading(line)
        elif end := self._ahead.fence_end(line):
            yield from self._pass_fence(line, end)
            return
        elif not self._is_paragraph and (matter := front_matter(line, self._ahead)):
            yield from self._matter(line, matter)
            return
        else:
            heading = self._heading(line)
        if heading and not (self._section and self._section.heading.holds(heading)):
            if heading.is_underlined:
                next(self._ahead)
            yield from self._begin(Section(heading))
        else:
            yield from self._text(line)

    def _heading(self, line: Line) -> Heading | None:
        if self._is_paragraph and not line.text.startswith("- ") and line.text.lstrip(" ")[:1] != "#":
            return None
        return heading_of(line, self._ahead.peek(), self._chapter(line))

    def _chapter(self, line: Line) -> str:
        """The year or month above a heading."""
        level = len(line.text.lstrip(" ")) - len(line.text.lstrip(" ").lstrip("#"))
        above = [chapter for chapter in self._chapters if chapter.level < level]
        return above[-1].date if above else ""

    def _begin(self, section: Section) -> Iterator[Row | Reject]:
        before, heading = self._section, section.heading
        if before and not before.is_chapter(heading):
            if not (self._is_named and before.is_empty):
                yield before.row()
        elif before and before.heading.date == heading.date:
            section.fields = before.fields  # a note's front matter, and its date once more
        self._chapters = [chapter for chapter in self._chapters if chapter.level < heading.level]
        if heading.span and not heading.is_one_day:
            self._chapters.append(heading)
        self._section, self._is_named, self._is_paragraph = section, False, False

    def _text(self, line: Line) -> Iterator[Row | Reject]:
        if self._section:
            self._section.add(line)
        elif line.flaw or line.text.strip():
            yield from self._begin(Section(Heading(line.number, level=0, flaw=_UNDATED)))
        self._is_paragraph = bool(line.text.strip()) and not line.text.startswith("#")

    def _pass_fence(self, line: Line, end: int) -> Iterator[Row | Reject]:
        yield from self._text(line)
        for within in self._ahead:
            yield from self._text(within)
            if within.number >= end:
                break
        self._is_paragraph = False

    def _matter(self, line: Line, matter: FrontMatter) -> Iterator[Row | Reject]:
        """Above a note it tells about it; within a file it begins a note if it has a date."""
        is_first = line.number == 1
        if not is_first and not matter.date:
            yield from self._text(line)
            return
        for _ in range(matter.lines):
            next(self._ahead)
        if matter.date and not (is_first and self._is_named and matter.is_creation):
            heading = heading_of(Line(line.number, f"# {matter.date}"))
            assert heading is not None
            heading = Heading(line.number, 0, heading.date, span=heading.span, flaw=matter.flaw)
            self._section = None if is_first else self._section
            yield from self._begin(Section(heading, matter.fields))
        elif self._section:
            self._section.fields = dict(matter.fields)
            if matter.flaw:
                self._section.add(Line(line.number, "", matter.flaw))
