"""No import costs more than its size: what is counted is how often a character is looked at, never a clock.

The files of attack (redos_heading.md, quadratic.csv) are made here, at one size and at twice that size.

.venv/bin/python -m pytest tests/diary/transfer/test_linear_parsers.py
"""

import importlib
import io
import pkgutil
import re
from collections.abc import Iterator
from re import _constants as kinds  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from types import ModuleType
from typing import Any

import pytest

from services import tabular
from services.diary import dates as when
from services.diary import transfer
from services.diary.transfer.formats import Format
from services.diary.transfer.lookahead import Lookahead
from services.diary.transfer.reading import read_rows
from services.diary.transfer.row import LIMIT, Reject
from services.tabular.csv_rows import CsvRows
from services.tabular.lines import Limit, Line, read_lines

ALPHABET = [chr(code) for code in range(1, 128)] + ["é", "🐕", "月"]


class CountingRows(CsvRows):
    """Counts the characters that are handed to the CSV reader."""

    scanned = 0

    def _parse(self, texts: Any) -> list[str]:
        texts = list(texts)
        self.scanned += sum(map(len, texts))
        return super()._parse(texts)


def counting_rows(content: bytes, limit: int = 128 << 10) -> CountingRows:
    return CountingRows(read_lines(io.BytesIO(content), LIMIT), ",", Limit(limit, "too long"))


@pytest.mark.parametrize(
    "line",
    [
        'x",",\n',
        '"a,\n',
        '"\n',
        'a,"b\n',
        '"a""\n',
        '"a"b\n',
        '",\n',
        'a\n"\n',
        '"' + "x" * 50 + "\n",
        '"\r\n',
    ],
)
@pytest.mark.parametrize("number", [500, 1_000])
def test_each_character_of_a_table_is_looked_at_three_times_at_most(line: str, number: int):
    text = line * number
    records = counting_rows(text.encode())
    assert sum(1 for _ in records) <= number * 2
    assert records.scanned <= 3 * len(text) + 3 * text.count("\n")


def test_a_quote_that_is_never_closed_costs_no_more_in_a_long_file():
    """As in attack/quadratic.csv, and longer than one record may be."""
    for number in (1_000, 2_000):
        records = counting_rows(b'x",",\n' * number, 1_000)
        assert all(record.flaw for record in records)
        assert records.scanned <= 3 * 7 * number


@pytest.mark.parametrize("line", ["```x\n", "~~~~ x\n", "```\n~~~\n", "- ```x\n\t```y\n", "`" * 40 + "x\n"])
def test_each_line_is_looked_at_once_for_the_end_of_a_fence(line: str, monkeypatch: pytest.MonkeyPatch):
    for number in (500, 1_000):
        read = 0

        def given(number: int = number) -> Iterator[Line]:
            nonlocal read
            for results in read_lines(io.BytesIO((line * number).encode()), LIMIT):
                read += 1
                yield results

        ahead = Lookahead(given())
        for results in ahead:
            ahead.fence_end(results)
        assert read == number * line.count("\n")
        assert sum(map(len, ahead._closers.values())) <= read


def of_attack(form: Format, size: int) -> bytes:
    blanks = " " * 470
    return {
        Format.MARKDOWN: b"# 2020-01-01\n" + f"# a{blanks}b\n".encode() * size,
        Format.CSV: b"text,date,a,b\n" + b'x",",\n' * size * 100,
    }[form]


@pytest.mark.parametrize("form", [Format.MARKDOWN, Format.CSV])
def test_the_files_of_the_attack_are_read_to_their_end(form: Format):
    """attack/redos_heading.md and attack/quadratic.csv took minutes."""
    results = list(read_rows(io.BytesIO(of_attack(form, 200)), form))
    assert all(isinstance(row, Reject) for row in results) if form is Format.CSV else len(results) == 1


# --- no pattern can match the same characters in two ways ---------------------------------------------------


def modules() -> list[ModuleType]:
    names = [
        name
        for package in (transfer, tabular)
        for _, name, _ in pkgutil.iter_modules(package.__path__, package.__name__ + ".")
    ]
    return [when, *map(importlib.import_module, names)]


def patterns() -> dict[str, re.Pattern[str]]:
    results: dict[str, re.Pattern[str]] = {}
    for module in modules():
        for name, value in vars(module).items():
            for number, item in enumerate(value if isinstance(value, list | tuple) else [value]):
                if isinstance(item, re.Pattern) and isinstance(item.pattern, str):
                    results[f"{module.__name__}.{name}.{number}"] = item
    return results


def matched_by(item: Any, flags: int) -> set[str]:
    """The characters that an item of a pattern can take, as far as the alphabet goes."""
    kind, value = item
    if kind is kinds.LITERAL:
        return {c for c in ALPHABET if c == chr(value) or (flags & re.I and c.lower() == chr(value).lower())}
    if kind is kinds.NOT_LITERAL:
        return {c for c in ALPHABET if c != chr(value)}
    if kind is kinds.ANY:
        return {c for c in ALPHABET if c != "\n" or flags & re.S}
    if kind is kinds.IN:
        state = parser.State()
        state.flags = flags
        compiled = re.compile(rebuilt(value), flags & (re.I | re.A))
        return {c for c in ALPHABET if compiled.fullmatch(c)}
    if kind in (kinds.MAX_REPEAT, kinds.MIN_REPEAT, kinds.POSSESSIVE_REPEAT):
        return set().union(*(matched_by(value, flags) for value in value[2]))
    if kind is kinds.SUBPATTERN:
        return set().union(*(matched_by(value, flags) for value in value[-1]))
    if kind is kinds.BRANCH:
        return set().union(*(matched_by(value, flags) for branch in value[1] for value in branch))
    return set()


CATEGORIES = {
    kinds.CATEGORY_DIGIT: r"\d", kinds.CATEGORY_SPACE: r"\s", kinds.CATEGORY_WORD: r"\w",
    kinds.CATEGORY_NOT_DIGIT: r"\D", kinds.CATEGORY_NOT_SPACE: r"\S", kinds.CATEGORY_NOT_WORD: r"\W",
}  # fmt: skip


def rebuilt(items: Any) -> str:
    parts = ["["]
    for kind, value in items:
        if kind is kinds.NEGATE:
            parts.append("^")
        elif kind is kinds.LITERAL:
            parts.append(re.escape(chr(value)))
        elif kind is kinds.RANGE:
            parts.append(f"{re.escape(chr(value[0]))}-{re.escape(chr(value[1]))}")
        elif kind is kinds.CATEGORY:
            parts.append(CATEGORIES[value])
    return "".join([*parts, "]"])


def flat(items: Any) -> list[Any]:
    """The items in a row, groups opened."""
    row: list[Any] = []
    for kind, value in items:
        row += flat(value[-1]) if kind is kinds.SUBPATTERN else [(kind, value)]
    return row


def is_unbounded(item: Any) -> bool:
    return item[0] in (kinds.MAX_REPEAT, kinds.MIN_REPEAT) and item[1][1] > 100


def may_be_nothing(item: Any) -> bool:
    kind, value = item
    repeats = (kinds.MAX_REPEAT, kinds.MIN_REPEAT, kinds.POSSESSIVE_REPEAT)
    return kind is kinds.AT or (kind in repeats and value[0] == 0) or kind in (kinds.ASSERT, kinds.ASSERT_NOT)


def ambiguities(items: Any, flags: int) -> Iterator[str]:
    """Two repeats without an end that can take the same characters, with nothing between that must differ."""
    row = flat(items)
    for index, item in enumerate(row):
        kind, value = item
        if kind is kinds.BRANCH:
            for branch in value[1]:
                yield from ambiguities(branch, flags)
        elif kind in (kinds.MAX_REPEAT, kinds.MIN_REPEAT):
            if is_unbounded(item) and any(map(is_unbounded, flat(value[2]))):
                yield "a repeat within a repeat"
            yield from ambiguities(value[2], flags)
        if not is_unbounded(item):
            continue
        common = matched_by(item, flags)
        for other in row[index + 1 :]:
            if is_unbounded(other) and common & matched_by(other, flags):
                yield f"two repeats take {sorted(common & matched_by(other, flags))[:3]}"
            if not may_be_nothing(other):
                common &= matched_by(other, flags)
            if not common:
                break


@pytest.mark.parametrize("name", sorted(patterns()))
def test_no_pattern_can_take_the_same_characters_in_two_ways(name: str):
    pattern = patterns()[name]
    assert list(ambiguities(parser.parse(pattern.pattern, pattern.flags), pattern.flags)) == []


@pytest.mark.parametrize(
    "bad", [r"(#{1,6})[ \t]+(.*?)(?:[ \t]+#*)?[ \t]*", r"(a+)+b", r"\s*a*\s*x", r"\d+\d+z", r".*,.*"]
)
def test_the_check_finds_what_it_is_for(bad: str):
    assert list(ambiguities(parser.parse(bad), 0))
