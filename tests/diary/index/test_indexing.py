"""From entries to chunks: places, days, vectors and words.

.venv/bin/python -m pytest tests/diary/index/test_indexing.py
"""

from dataclasses import replace

import pytest
from fake_embedder import FakeEmbedder, unit_vector

from services.diary.entry import Entry
from services.diary.index import bm25
from services.diary.index.indexing import build_chunks, spell_out_date


def entry(
    text: str = "", date: str = "2026-05-03", first: str = "", last: str = "", **fields: object
) -> Entry:
    base = Entry("ada", "one", 2, text, date, first or date, last or first or date, None, (), "2026-06-01")
    return replace(base, **fields)


class CountingEmbedder(FakeEmbedder):
    """Remembers what it was asked to embed at once."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def embed_documents(self, texts):
        self.batches.append(list(texts))
        return super().embed_documents(texts)


def test_each_piece_is_a_chunk_with_its_place_days_and_vector():
    rainy = entry("Rain.\nThen sun.", first="2026-05-01", last="2026-05-31")
    chunks = build_chunks([rainy], FakeEmbedder())
    assert [(chunk.ordinal, chunk.text) for chunk in chunks] == [(0, "Rain."), (1, "Then sun.")]
    for chunk in chunks:
        assert (chunk.owner, chunk.entry_id, chunk.version) == ("ada", "one", 2)
        assert (chunk.first_day, chunk.last_day) == ("2026-05-01", "2026-05-31")
        assert chunk.vector == unit_vector(chunk.text)


def test_a_chunk_is_found_by_the_words_of_its_day():
    (chunk,) = build_chunks([entry("It rained.")], FakeEmbedder())
    assert set(bm25.query_vector("What about the rain on 3 May 2026?").indices) <= set(
        chunk.sparse_vector.indices
    )
    assert "2026" not in chunk.text


def test_many_entries_are_embedded_in_one_batch():
    embedder = CountingEmbedder()
    chunks = build_chunks([entry("a\nB", id="x"), entry("C", id="y"), entry("D", owner="bríd")], embedder)
    assert embedder.batches == [["a", "B", "C", "D"]]
    assert [(c.owner, c.entry_id, c.ordinal) for c in chunks] == [
        ("ada", "x", 0),
        ("ada", "x", 1),
        ("ada", "y", 0),
        ("bríd", "one", 0),
    ]


def test_a_removed_entry_has_no_chunks_and_nothing_is_embedded_for_it():
    embedder = CountingEmbedder()
    assert build_chunks([entry("still here", removed=True)], embedder) == []
    assert build_chunks([], embedder) == []
    assert embedder.batches == []


@pytest.mark.parametrize(
    ("date", "first", "last", "expected"),
    [
        ("2026-05-03", "2026-05-03", "2026-05-03", "3 May 2026"),
        ("2026-05-03T08:30:00+02:00", "2026-05-03", "2026-05-03", "3 May 2026"),
        ("1998-02", "1998-02-01", "1998-02-28", "February 1998"),
        ("spring 1998", "1998-03-01", "1998-05-31", "spring 1998"),
        ("1660", "1660-01-01", "1660-12-31", "1660"),
    ],
)
def test_a_date_is_spelled_out_as_people_ask_for_it(date: str, first: str, last: str, expected: str):
    assert spell_out_date(entry("x", date=date, first=first, last=last)) == expected
