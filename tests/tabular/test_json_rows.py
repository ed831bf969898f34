"""JSON arrays: a broken item costs no other, and no file is read more than three times.

.venv/bin/python -m pytest tests/tabular/test_json_rows.py
"""

import io
import json

import pytest

from services.tabular import json_rows
from services.tabular.json_rows import NoArray, json_array
from services.tabular.lines import Limit, Row


def read(text: str, limit: int = 1 << 20) -> list[Row]:
    return list(json_array(io.BytesIO(text.encode()), Limit(limit, "it is too long")))


def values(rows: list[Row]) -> list[object]:
    return [row.value for row in rows if not row.flaw]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ('{"n": [1}', "a bracket is missing in line 3"),
        ('{"n": {1]}', "a bracket is missing in line 3"),
        ('"n": 1}', "a bracket is missing in line 3"),
        ('{"n": "1}', "a quote is not closed in line 3"),
        ('{"n": [1', "a bracket is not closed"),
        ("]", "it stands behind the end of the list"),
    ],
)
def test_behind_an_item_without_an_end_reading_goes_on_in_the_next_line(broken: str, reason: str):
    rows = read(f'[\n  {{"n": 0}},\n  {broken},\n  {{"n": 2}},\n  {{"n": 3}}\n]\n')
    assert values(rows) == [{"n": 0}, {"n": 2}, {"n": 3}]
    assert next(row.flaw for row in rows if row.flaw).startswith(reason)


def test_lines_within_a_broken_item_that_begin_as_items_do_are_read():
    rows = read('[\n{"n": [\n{"n": 1},\n{"n": 2}\n]\n')
    assert values(rows) == [{"n": 1}, {"n": 2}]
    assert [(row.line, row.flaw) for row in rows if row.flaw] == [
        (2, "a bracket is not closed; reading goes on in line 3")
    ]


@pytest.mark.parametrize("line", ['{"a":[\n', "{\n", "{[\n", '{"\n', '{"a":[}\n', "[{]\n"])
def test_a_file_of_broken_items_costs_no_more_than_a_multiple_of_its_size(
    line: str, monkeypatch: pytest.MonkeyPatch
):
    """Each line may begin an item that reaches to the end: read from each, they would cost their square."""
    text = "[\n" + line * 5_000
    scanned = 0
    marks = json_rows.marks

    def counted(pieces):
        nonlocal scanned
        for piece, mark in marks(pieces):
            scanned += len(piece) + len(mark)
            yield piece, mark

    monkeypatch.setattr(json_rows, "marks", counted)
    assert read(text)
    assert scanned <= 3 * len(text) + 10_000 * len("torn")


def test_an_item_beyond_the_limit_is_named_and_the_next_is_read():
    rows = read(json.dumps([{"n": "x" * 100}, {"n": 1}], indent=1), limit=50)
    assert values(rows) == [{"n": 1}]
    assert [row.flaw for row in rows if row.flaw] == ["it is too long"]


@pytest.mark.parametrize(
    ("text", "is_blank"), [("", True), (" \n\n", True), ("5", False), ('{"a": []}', False)]
)
def test_without_an_array_there_is_an_error(text: str, is_blank: bool):
    with pytest.raises(NoArray) as error:
        read(text)
    assert error.value.is_blank is is_blank
