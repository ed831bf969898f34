"""Markdown in which each entry stands under a heading that is its date: `# 2023-05-08`,
`## Monday, May 8, 2023`, `### 8 May 2023: The stray dog`.

A heading that names no date belongs to the entry, and so does one that names a year or a month beneath a
day. Code fences are not looked at. Under its heading an export has a comment with the entry's other fields;
there a line that would read as a heading begins with a backslash, which is taken off.
"""

import json
import re
from collections.abc import Iterator
from typing import BinaryIO

from services.diary.importing.headings import Heading, heading_of
from services.diary.importing.lines import Line, lines
from services.diary.importing.row import LONGEST, TOO_LONG, Reject, Row, row_of

MARK = "<!-- ada "  # begins the comment of an export
END = " -->"
ESCAPABLE = re.compile(r"\\*#")  # a line that begins so is exported with one backslash more
_ESCAPED = re.compile(r"\\+#")
_BLANK_LINES = re.compile(r"\A(?:[ \t]*\n)+")
_UNDATED = "it stands before the first heading with a date: write one above it, as # 2023-05-08"


def read_markdown(file: BinaryIO) -> Iterator[Row | Reject]:
    """A row for every dated heading with something under it."""
    section: _Section | None = None
    for line in lines(file):
        heading = heading_of(line)
        if heading and not (section and section.heading.holds(heading)):
            if section and not section.is_chapter(heading):
                yield section.row()
            section = _Section(heading)
        elif section:
            section.add(line)
        elif line.flaw or line.text.strip():
            section = _Section(Heading(line.number, level=0, flaw=_UNDATED))
    if section:
        yield section.row()


class _Section:
    """A dated heading and the lines under it."""

    def __init__(self, heading: Heading) -> None:
        self.heading = heading
        self._flaw = heading.flaw
        self._size = 0
        self._lines: list[str] = []

    def add(self, line: Line) -> None:
        """One more line; of a section that is no entry none are kept."""
        self._size += len(line.text)
        self._flaw = self._flaw or line.flaw or (TOO_LONG if self._size > LONGEST else "")
        if self._flaw:
            self._lines.clear()
        elif self.heading.has_cr and line.text.endswith("\r\n"):
            self._lines.append(line.text[:-2] + "\n")
        else:
            self._lines.append(line.text)

    def is_chapter(self, below: Heading) -> bool:
        """Whether it is but a heading over other dated headings."""
        return not self._flaw and self._is_empty() and below.level > self.heading.level

    def row(self) -> Row | Reject:
        """The entry that the section is."""
        if self._flaw:
            return Reject(self.heading.line, self._flaw)
        if self._is_empty():
            return Reject(self.heading.line, "nothing stands under this heading")
        text = _BLANK_LINES.sub("", "".join(self._lines))
        if text.startswith(MARK):
            return self._exported(text)
        text = f"{self.heading.title}\n{text}".removeprefix("\n").rstrip()
        return row_of(self.heading.line, {"date": self.heading.date, "text": text})

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

    def _is_empty(self) -> bool:
        return not self.heading.title and not any(line.strip() for line in self._lines)
