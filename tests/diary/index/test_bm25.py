"""The words of a text for BM25: stemmed, without stop words, weighed by how often they occur.

.venv/bin/python -m pytest tests/diary/index/test_bm25.py
"""

from datetime import date as Date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.diary.index import bm25

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=200)


@pytest.mark.parametrize(
    ("query", "text_of_entry"),
    [
        ("adopting", "She adopted a dog"),
        ("PAINTINGS", "a painting of the sea"),
        ("Bríd", "tea with Brid"),
        ("café", "at the cafe"),
        ("May 2023", "On 8 May 2023 it rained"),
    ],
)
def test_a_word_is_found_in_another_form(query: str, text_of_entry: str):
    assert set(bm25.query_vector(query).indices) <= set(bm25.document_vector(text_of_entry).indices)


def test_stop_words_ask_for_nothing():
    assert bm25.query_vector("what did you do to the of and").indices == []


def test_words_that_differ_are_told_apart():
    assert not set(bm25.query_vector("kite lantern").indices) & set(
        bm25.document_vector("harbour gull").indices
    )


def test_of_a_question_each_word_counts_once():
    query = bm25.query_vector("sea sea storm")
    assert query.values == [1.0, 1.0]


def test_what_occurs_more_often_weighs_more_but_not_as_much_more():
    weights = sorted(bm25.document_vector("gull gull gull lantern").values)
    assert weights[0] < weights[1] < 3 * weights[0]


def test_in_a_longer_text_the_same_word_weighs_less():
    (alone,) = bm25.document_vector("gull").values
    among_others = bm25.document_vector("gull " + " ".join(f"word{n}" for n in range(60)))
    (gull,) = bm25.query_vector("gull").indices
    assert among_others.values[among_others.indices.index(gull)] < alone


@given(TEXT)
def test_every_word_has_one_positive_weight(text: str):
    vector = bm25.document_vector(text)
    assert len(vector.indices) == len(set(vector.indices)) == len(vector.values)
    assert all(value > 0 for value in vector.values)


@given(TEXT)
def test_a_text_is_found_by_its_own_words(text: str):
    assert set(bm25.query_vector(text).indices) == set(bm25.document_vector(text).indices)


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (Date(2026, 5, 3), Date(2026, 5, 3), "3 May 2026"),
        (Date(2024, 2, 1), Date(2024, 2, 29), "February 2024"),
        (Date(2024, 2, 1), Date(2024, 2, 28), ""),
        (Date(2024, 12, 1), Date(2025, 12, 31), ""),
        (Date(1660, 1, 1), Date(1660, 12, 31), "1660"),
        (Date(1998, 3, 1), Date(1998, 5, 31), ""),
    ],
)
def test_days_are_spelled_out_as_people_ask_for_them(first: Date, last: Date, expected: str):
    assert bm25.spell_out_days(first, last) == expected


@pytest.mark.parametrize(
    ("query", "text_of_entry"),
    [("房子", "我昨天决定不卖房子了"), ("猫が", "昨日、猫が窓のそばで寝ていた。"), ("บ้าน", "ฉันไม่ขายบ้าน")],
)
def test_a_word_is_found_in_scripts_without_spaces(query: str, text_of_entry: str):
    assert set(bm25.query_vector(query).indices) & set(bm25.document_vector(text_of_entry).indices)
