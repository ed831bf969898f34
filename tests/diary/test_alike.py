"""Entries that say nearly the same.

.venv/bin/python -m pytest tests/diary/test_alike.py
"""

from hypothesis import given
from hypothesis import strategies as st

from services.diary.alike import Collapsed, alike, runs_of

DRAFT = "We walked along the prom in the rain and saw the grey seal again, close to the slip this time."


def same(a: str, b: str) -> bool:
    return alike(runs_of(a), runs_of(b))


def test_case_marks_and_spaces_make_no_difference():
    assert same(DRAFT, DRAFT.upper().replace(",", " –\n"))


def test_a_word_more_in_a_long_text_makes_no_difference():
    assert same(f"{DRAFT} {DRAFT[::-1]} {DRAFT}", f"{DRAFT} {DRAFT[::-1]} {DRAFT} Good night.")


def test_the_same_words_about_another_thing_do():
    assert not same(
        "We had soup and bread and went to bed at nine.", "We had eggs and toast and went out at nine."
    )


def test_a_part_is_not_the_whole():
    assert not same(DRAFT, DRAFT + " Then " + DRAFT[::-1])


def test_a_single_word_is_only_like_itself():
    assert same("Rain.", "rain")
    assert not same("Rain.", "Sun.")
    assert not same("Rain.", "Rain rain.")


def test_texts_without_words_are_not_alike():
    assert not same("…", "…")


@given(st.text(), st.text())
def test_likeness_is_mutual_and_to_oneself(a: str, b: str):
    assert same(a, b) == same(b, a)
    assert same(a, a) == bool(runs_of(a))


@given(st.lists(st.sampled_from(["one two three", "One, two, three!", "four five six", "…"])))
def test_everything_is_kept_or_counted_to_something_kept(texts: list[str]):
    groups: Collapsed[int] = Collapsed()
    for number, text in enumerate(texts):
        groups.put(number, text)
    assert sorted(n for group in groups.kept for n in (group.one, *group.others)) == list(range(len(texts)))
    for group in groups.kept:
        assert all(group.one < other for other in group.others)
