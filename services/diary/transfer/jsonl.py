"""JSON Lines: one object a line."""

import json
from collections.abc import Iterator
from typing import BinaryIO

from services.diary.transfer.lines import Line, lines
from services.diary.transfer.programs import as_row
from services.diary.transfer.row import Reject, Row, row_of


def read_jsonl(file: BinaryIO) -> Iterator[Row | Reject]:
    """A row for every line that is not blank."""
    for line in lines(file):
        if line.flaw or line.text.strip():
            yield _row(line)


def _row(line: Line) -> Row | Reject:
    return Reject(line.number, line.flaw) if line.flaw else row_of_json(line.number, line.text)


def row_of_json(line: int, text: str) -> Row | Reject:
    """The row that one JSON object makes."""
    try:
        fields = json.loads(text)
    except json.JSONDecodeError as error:
        return Reject(line, f"it is not JSON: {error.msg} (character {error.pos + 1} of it)")
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; too many brackets
        return Reject(line, f"it is not JSON that can be read: {error}")
    if not isinstance(fields, dict):
        return Reject(line, 'it is no object: write {"date": …, "text": …}')
    try:
        return row_of(line, as_row(fields))
    except ValueError as error:
        return Reject(line, str(error))
