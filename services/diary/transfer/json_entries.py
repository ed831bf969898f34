"""Entries in JSON Lines, or in a JSON array, which is how the seed keeps its diary.

The array may be the value of `entries` in an object, as in the exports of Day One and jrnl, or of `blocks`,
as in Logseq's.
"""

from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from services.diary.transfer.programs import as_row
from services.diary.transfer.row import LIMIT, Reject, Row, row_of
from services.errors import EntryRejected
from services.tabular.json_rows import NoArray, json_array, json_lines
from services.tabular.lines import Row as JsonRow
from services.tabular.lines import read_lines

_KEYS = ("entries", "blocks")
_NO_LIST = 'the file holds no list of entries: send […] or {"entries": […]}, or say ?format=jsonl'


def read_jsonl(file: BinaryIO) -> Iterator[Row | Reject]:
    """Yield a row for every line that is not blank."""
    return _entries(json_lines(read_lines(file, LIMIT)))


def read_json(file: BinaryIO) -> Iterator[Row | Reject]:
    """Yield a row for every item of the list. Raises EntryRejected when there is no list."""
    try:
        yield from _entries(json_array(file, LIMIT, keys=_KEYS))
    except NoArray:
        raise EntryRejected(_NO_LIST, "file") from None


def _entries(rows: Iterable[JsonRow[Any]]) -> Iterator[Row | Reject]:
    for row in rows:
        yield Reject(row.line, row.flaw) if row.flaw else _entry(row.line, row.value)


def _entry(line: int, fields: Any) -> Row | Reject:
    if not isinstance(fields, dict):
        return Reject(line, 'it is no object: write {"date": …, "text": …}')
    try:
        return row_of(line, as_row(fields))
    except ValueError as error:
        return Reject(line, str(error))
