"""Reads a file of any format as rows, while it is streamed: an entry or the reason why there is none."""

import codecs
from collections.abc import Callable, Iterator
from typing import BinaryIO

from services.diary.transfer.csv_table import read_csv
from services.diary.transfer.formats import Format
from services.diary.transfer.jrnl_text import read_jrnl
from services.diary.transfer.json_entries import read_json, read_jsonl
from services.diary.transfer.markdown import read_markdown
from services.diary.transfer.row import LIMIT, Reject, Row
from services.diary.transfer.zip_archive import read_zip
from services.errors import EntryRejected
from services.tabular.lines import LineEnd, line_end, returns_as_feeds

_READERS: dict[Format, Callable[[BinaryIO], Iterator[Row | Reject]]] = {
    Format.JSONL: read_jsonl,
    Format.JSON: read_json,
    Format.JRNL: read_jrnl,
}


_OTHER_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def read_rows(file: BinaryIO, form: Format, name: str = "") -> Iterator[Row | Reject]:
    """Every row of a seekable file, of which no more than 1 MiB is held at a time.

    `name` is the file's: a note's may be its date. Raises EntryRejected when the file as a whole can't be
    read: it is empty, not UTF-8, no list, no table.
    """
    _skip_byte_order_mark(file)
    if form is Format.ZIP:
        yield from read_zip(file, read_rows)
        return
    if form is Format.CSV:
        yield from read_csv(file)
        return
    if line_end(file, LIMIT, is_table=False) is LineEnd.RETURN:
        file = returns_as_feeds(file)
    yield from read_markdown(file, name) if form is Format.MARKDOWN else _READERS[form](file)


def _skip_byte_order_mark(file: BinaryIO) -> None:
    """Go to where the text of a seekable file begins.

    Raises EntryRejected when the file is empty, or marked as something else than UTF-8.
    """
    start = file.read(4)
    if not start:
        raise EntryRejected("the file is empty", "file")
    for mark, name in _OTHER_MARKS.items():
        if start.startswith(mark):
            raise EntryRejected(f"the file is {name}: save it as UTF-8", "file")
    file.seek(len(codecs.BOM_UTF8) if start.startswith(codecs.BOM_UTF8) else 0)
