"""Text of others on a terminal is shown and never obeyed.

.venv/bin/python -m pytest tests/test_printable.py
"""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.printable import printable

ANY = st.text(st.characters(codec=None), max_size=60)


@given(ANY)
def test_nothing_is_left_that_a_terminal_would_obey(text: str):
    shown = printable(text)
    assert all(unicodedata.category(c) not in ("Cc", "Cs") or c in "\n\t" for c in shown)
    shown.encode()


@given(ANY, st.integers(0, 60))
def test_the_pieces_of_a_stream_are_shown_as_the_whole_is(text: str, cut: int):
    assert printable(text[:cut]) + printable(text[cut:]) == printable(text)


@given(st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=60))
def test_words_of_any_language_stay_as_they_are(text: str):
    assert printable(text) == text


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("\x1b]52;c;ZXZpbA==\x07", "␛]52;c;ZXZpbA==␇"),
        ("\x1b[2J\x1b[31mred", "␛[2J␛[31mred"),
        ("\x9b31mred", "\ufffd31mred"),
        ("safe\rfalse\r\n", "safefalse\n"),
        ("a\x7f\x08b", "a␡␈b"),
        ("\u202egnp.exe", "\ufffdgnp.exe"),
        ("tab\tand\nline", "tab\tand\nline"),
    ],
)
def test_sequences_become_what_they_are_made_of(sent: str, shown: str):
    assert printable(sent) == shown
