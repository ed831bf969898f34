"""A file that is handed in, as rows: an entry or a refusal for each, while it is being read."""

from collections.abc import Iterator
from typing import BinaryIO

from services.diary.importing.csv_table import read_csv
from services.diary.importing.formats import Format
from services.diary.importing.json_list import read_json
from services.diary.importing.jsonl import read_jsonl
from services.diary.importing.lines import open_text
from services.diary.importing.markdown import read_markdown
from services.diary.importing.row import Reject, Row

_READERS = {
    Format.JSONL: read_jsonl,
    Format.JSON: read_json,
    Format.CSV: read_csv,
    Format.MARKDOWN: read_markdown,
}


def read_rows(file: BinaryIO, form: Format) -> Iterator[Row | Reject]:
    """Every row of a seekable file, of which no more than 1 MiB is held at a time.

    Raises EntryRejected when the file as a whole can't be read: it is empty, not UTF-8, no list, no table.
    """
    open_text(file)
    yield from _READERS[form](file)
