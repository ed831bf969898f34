"""CSV with a head line: columns in any order, divided by commas, semicolons or tabs; Daylio's as it is."""

import csv
import re
from collections.abc import Iterator
from typing import BinaryIO, cast

from services.diary.transfer.csv_records import Record, Records
from services.diary.transfer.lines import FromReturns, Line, LineEnd, line_end, lines
from services.diary.transfer.programs import DAYLIO, daylio
from services.diary.transfer.row import Reject, Row, row_of
from services.errors import EntryRejected

_DELIMITERS = ",;\t"
_TEXT_NAMES = {"text", "content"}
_TAGS_BETWEEN = re.compile(r"[,;|]")
_MOST_TOLD = 200  # characters of a head


def read_csv(file: BinaryIO) -> Iterator[Row | Reject]:
    """A row for every record under the head. Raises EntryRejected when no column is named `text`."""
    returns = line_end(file, is_table=True) is LineEnd.RETURN
    given = lines(cast(BinaryIO, FromReturns(file)) if returns else file)
    names, delimiter = _head(next(given, None))
    for record in Records(given, delimiter):
        if record.flaw:
            yield Reject(record.line, record.flaw)
        elif any(record.values):
            values = [value.replace("\r", "\n") for value in record.values] if returns else record.values
            yield _row(record, names, values)


def _head(line: Line | None) -> tuple[list[str], str]:
    """The columns' names and what stands between them."""
    if line is None or line.flaw:
        raise EntryRejected(f"the CSV file has no head: {line.flaw if line else 'it is empty'}", "file")
    several: list[str] = []
    for delimiter in _DELIMITERS:
        try:
            names = [name.strip().lower() for name in next(csv.reader([line.text], delimiter=delimiter), [])]
        except csv.Error as error:
            raise EntryRejected(f"the CSV file has no head: {error}", "file") from None
        if _TEXT_NAMES & set(names) or set(names) >= DAYLIO:
            return names, delimiter
        several = max(several, names, key=len)
    found = ", ".join(several)[:_MOST_TOLD]
    what = f"its first line must name the columns, one of them `text`, and is {found!r}"
    raise EntryRejected(f"the CSV file has no head: {what}", "file")


def _row(record: Record, names: list[str], values: list[str]) -> Row | Reject:
    line = record.line
    if len(values) > len(names):
        return Reject(line, f"it has {len(values)} values and the head has {len(names)}: quote the text")
    cells = dict(zip(names, values, strict=False))
    if not _TEXT_NAMES & set(names):
        return _daylios(line, cells)
    fields: dict[str, object] = {
        name: cell if name in _TEXT_NAMES else cell.strip() for name, cell in cells.items()
    }
    fields["tags"] = [tag.strip() for tag in _TAGS_BETWEEN.split(cells.get("tags", "")) if tag.strip()]
    return row_of(line, fields)


def _daylios(line: int, cells: dict[str, str]) -> Row | Reject:
    try:
        fields = daylio(cells)
    except ValueError as error:
        return Reject(line, f"date: {error}")
    if not fields["text"]:
        return Reject(line, "it has no text: a `note` or `note_title` is needed, a mood alone is no entry")
    return row_of(line, fields)
