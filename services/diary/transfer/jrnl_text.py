"""jrnl's own text: each entry begins with its date and time in brackets, and its title behind them.

    [2023-05-08 09:14] The stray dog came back. It ate my left shoe.

Older journals have no brackets. What stands in brackets and is no date, as in `[x] done`, is text.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import BinaryIO

from services.diary.dates import parse_date
from services.diary.transfer.date_spelling import Likeness, likeness, normalize_date
from services.diary.transfer.headings import Heading, Section
from services.diary.transfer.row import LIMIT, Reject, Row
from services.tabular.lines import Line, read_lines

_BRACKETED = re.compile(r"\[([^\[\]\r\n]{4,60})\](?: ([^\r\n]*))?\r?\n?")
_BARE = re.compile(
    r"(\d{4}-\d\d-\d\d \d{1,2}:\d\d(?::\d\d)?(?: [AaPp][Mm])?)(?: ([^\r\n]*))?\r?\n?", re.ASCII
)
_UNDATED = "it stands before the first date: write one above it, as [2023-05-08 09:14] title"


def read_jrnl(file: BinaryIO) -> Iterator[Row | Reject]:
    """A row for every date at the beginning of a line."""
    section: Section | None = None
    for line in read_lines(file, LIMIT):
        if heading := _heading(line):
            if section:
                yield section.row()
            section = Section(heading)
        elif section:
            section.add(line)
        elif line.flaw or line.text.strip():
            section = Section(Heading(line.number, level=0, flaw=_UNDATED))
    if section:
        yield section.row()


def _heading(line: Line) -> Heading | None:
    match = _BRACKETED.fullmatch(line.text) or _BARE.fullmatch(line.text)
    if match is None:
        return None
    has_cr = line.text.endswith("\r\n")
    try:
        date = normalize_date(match[1].strip())
        span = parse_date(date, datetime.now(UTC).date())
    except ValueError as error:
        if likeness(match[1]) is not Likeness.WHOLLY:
            return None
        return Heading(line.number, 1, flaw=f"date: {error}", has_cr=has_cr)
    return Heading(line.number, 1, date, match[2] or "", span, has_cr=has_cr)
