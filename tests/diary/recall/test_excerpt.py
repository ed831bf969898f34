"""What of an entry is shown.

.venv/bin/python -m pytest tests/diary/recall/test_excerpt.py
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.diary.index.chunking import chunks
from services.diary.recall.excerpt import LEFT_OUT, MAX_ENTRY_CHARACTERS, excerpt

LINES = [f"Line {number}: " + f"word{number} " * 40 + "end." for number in range(12)]
LONG = "\n".join(LINES)


def test_a_short_entry_is_shown_whole_to_the_letter():
    text = ("  Morning.\n\n" + "x" * MAX_ENTRY_CHARACTERS)[:MAX_ENTRY_CHARACTERS]
    assert excerpt(text, [0]) == text


def test_of_a_long_one_the_piece_that_was_found_stands_between_its_neighbours():
    assert excerpt(LONG, [5]) == f"{LEFT_OUT} " + "\n".join(LINES[4:7]) + f" {LEFT_OUT}"


def test_at_the_beginning_and_at_the_end_nothing_is_marked_as_left_out():
    assert excerpt(LONG, [0]).startswith("Line 0: ")
    assert excerpt(LONG, [11]).endswith(" end.")


def test_two_places_are_shown_in_the_order_of_the_text_with_the_gap_marked():
    text = "\n".join(f"{number} is a line of some words." for number in range(100))
    visible = excerpt(text, [70, 10])
    parts = visible.split(f" {LEFT_OUT}\n{LEFT_OUT} ")
    assert [part.strip(f"{LEFT_OUT} ").split()[0] for part in parts] == ["9", "69"]


def test_the_best_is_shown_when_not_all_fit():
    assert "Line 9:" in excerpt(LONG, [9, 0, 3])
    assert "Line 3:" not in excerpt(LONG, [9, 0, 3])


def test_a_word_without_end_is_cut():
    assert excerpt("a" * 32_768, [0]) == f"{'a' * MAX_ENTRY_CHARACTERS} {LEFT_OUT}"


@pytest.mark.parametrize("matching", [[], [99], [99, 98]])
def test_a_place_that_the_text_does_not_have_shows_its_beginning(matching: list[int]):
    assert excerpt(LONG, matching).startswith("Line 0: ")


@given(st.lists(st.sampled_from([*LINES[:3], "Rain.", "", "x" * 1600]), max_size=30), st.data())
def test_what_is_shown_stands_in_the_entry_and_fits(lines: list[str], data: st.DataObject):
    text = "\n".join(lines)
    places = st.lists(st.integers(0, max(0, len(chunks(text)) - 1)), min_size=1, max_size=6, unique=True)
    matching = data.draw(places)
    visible = excerpt(text, matching)
    gaps = visible.count(LEFT_OUT)
    assert len(visible) <= MAX_ENTRY_CHARACTERS + (len(LEFT_OUT) + 1) * gaps
    for part in visible.split(LEFT_OUT):
        assert part.strip() in text
