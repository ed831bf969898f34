"""A file that is handed in, as rows: an entry or a refusal for each, while it is being read."""

from collections.abc import Callable, Iterator
from typing import BinaryIO, cast

from services.diary.transfer.csv_table import read_csv
from services.diary.transfer.formats import Format
from services.diary.transfer.jrnl_text import read_jrnl
from services.diary.transfer.json_list import read_json
from services.diary.transfer.jsonl import read_jsonl
from services.diary.transfer.lines import FromReturns, LineEnd, line_end, open_text
from services.diary.transfer.markdown import read_markdown
from services.diary.transfer.row import Reject, Row
from services.diary.transfer.zip_archive import read_zip

_READERS: dict[Format, Callable[[BinaryIO], Iterator[Row | Reject]]] = {
    Format.JSONL: read_jsonl,
    Format.JSON: read_json,
    Format.JRNL: read_jrnl,
}


def read_rows(file: BinaryIO, form: Format, name: str = "") -> Iterator[Row | Reject]:
    """Every row of a seekable file, of which no more than 1 MiB is held at a time.

    `name` is the file's: a note's may be its date. Raises EntryRejected when the file as a whole can't be
    read: it is empty, not UTF-8, no list, no table.
    """
    open_text(file)
    if form is Format.ZIP:
        yield from read_zip(file, read_rows)
        return
    if form is Format.CSV:
        yield from read_csv(file)
        return
    if line_end(file, is_table=False) is LineEnd.RETURN:
        file = cast(BinaryIO, FromReturns(file))
    yield from read_markdown(file, name) if form is Format.MARKDOWN else _READERS[form](file)
