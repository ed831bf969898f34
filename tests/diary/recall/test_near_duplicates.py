"""Entries that say the same.

.venv/bin/python -m pytest tests/diary/recall/test_near_duplicates.py
"""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from services.diary.recall.near_duplicates import Deduplicator, normalized_tokens

DRAFT = "We walked along the prom in the rain and saw the grey seal again, close to the slip this time."
SPOKEN = st.sampled_from(
    [
        "I",
        "we",
        "will",
        "sell",
        "the",
        "house",
        "to",
        "my",
        "cousin",
        "before",
        "winter",
        "and",
        "had",
        "supper",
        "with",
        "an",
        "old",
        "friend",
        "in",
        "Sligo",
    ]
)
SENTENCES = st.lists(SPOKEN, min_size=1, max_size=60)
NAMES = st.sampled_from(["Marta", "Jonas", "Fergal", "An", "The", "Órla", "李", "राधा", "May"])
NEGATIONS = st.sampled_from(
    ["not", "never", "no longer", "without", "hardly", "no", "don't", "won’t", "neither", "nobody", "without"]
)


def is_duplicate(a: str, b: str) -> bool:
    groups: Deduplicator[str] = Deduplicator()
    groups.add("a", a)
    groups.add("b", b)
    return groups.groups == [["a", "b"]]


@pytest.mark.parametrize(
    "copy",
    [
        DRAFT.upper(),
        DRAFT.replace(",", " –\n"),
        DRAFT.replace(" ", "\u00a0"),
        f"  **{DRAFT}**\n",
        DRAFT.replace(".", "…"),
        DRAFT.replace("time.", "_time_!"),
    ],
)
def test_case_punctuation_and_spacing_make_no_difference(copy: str):
    assert is_duplicate(DRAFT, copy)


def test_an_apostrophe_may_be_straight_or_curled_and_an_accent_composed_or_not():
    assert is_duplicate("I didn't see Órla at the café.", "I didn’t see O\u0301rla at the cafe\u0301.")


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("I will sell the house.", "I will not sell the house."),
        ("I do smoke.", "I don't smoke."),
        ("I smoke.", "I no longer smoke."),
        ("Tea with sugar.", "Tea without sugar."),
        ("50 mg of the pill", "75 mg of the pill"),
        ("1.5 mg of the pill", "1 5 mg of the pill"),
        ("1.5 mg of the pill", "15 mg of the pill"),
        ("It was -5 outside.", "It was 5 outside."),
        ("It was −5 outside.", "It was 5 outside."),
        ("It cost €50.", "It cost $50."),
        ("Supper with Marta.", "Supper with Jonas."),
        ("Marta beat Jonas.", "Jonas beat Marta."),
        ("I left before supper.", "I left after supper."),
        ("He came.", "She came."),
        ("You sold the house.", "You sold the house?"),
        ("राधा आई", "राधे आई"),
        ("猫が好き", "猫が嫌い"),
        ("Rain.", "Sun."),
        ("Rain.", "Rain rain."),
        (DRAFT, f"{DRAFT} Good night."),
    ],
)
def test_one_word_number_or_sign_makes_another_text(a: str, b: str):
    assert not is_duplicate(a, b)


def test_texts_without_words_are_not_alike():
    assert not is_duplicate("…", "…")


@given(SENTENCES, st.integers(0, 10**6), st.integers(0, 10**6), st.data())
def test_another_number_never_collapses(words: list[str], first: int, second: int, data: st.DataObject):
    assume(first != second)
    position = data.draw(st.integers(0, len(words)))
    a, b = (" ".join([*words[:position], str(number), *words[position:]]) for number in (first, second))
    assert not is_duplicate(a, b)


@given(SENTENCES, NEGATIONS, st.data())
def test_a_negation_never_collapses(words: list[str], negation: str, data: st.DataObject):
    position = data.draw(st.integers(0, len(words)))
    assert not is_duplicate(" ".join(words), " ".join([*words[:position], negation, *words[position:]]))


@given(SENTENCES, NAMES, NAMES, st.data())
def test_another_name_never_collapses(words: list[str], first: str, second: str, data: st.DataObject):
    assume(first != second)
    position = data.draw(st.integers(0, len(words)))
    a, b = (" ".join([*words[:position], name, *words[position:]]) for name in (first, second))
    assert not is_duplicate(a, b)


@given(st.text(), st.text())
def test_likeness_is_mutual_and_to_oneself(a: str, b: str):
    assert is_duplicate(a, b) == is_duplicate(b, a)
    assert is_duplicate(a, a) == bool(normalized_tokens(a))


@given(st.lists(st.sampled_from(["one two three", "One, two, three!", "four five six", "…"])))
def test_every_thing_is_in_one_group_behind_those_before_it(texts: list[str]):
    groups: Deduplicator[int] = Deduplicator()
    for number, text in enumerate(texts):
        groups.add(number, text)
    numbers = [number for group in groups.groups for number in group]
    assert sorted(numbers) == list(range(len(texts)))
    assert all(group == sorted(group) for group in groups.groups)
