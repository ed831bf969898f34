"""A dated heading and the lines under it: what becomes an entry."""

import json
import re
from collections.abc import Mapping
from typing import Any

from services.diary.transfer.headings import Heading
from services.diary.transfer.row import LIMIT, Reject, Row, row_of
from services.tabular.lines import Line

MARK = "<!-- ada "  # begins the comment of an export
END = " -->"
_ESCAPED = re.compile(r"\\+#")


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
