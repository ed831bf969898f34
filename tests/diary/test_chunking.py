"""Entries in pieces: no word lost, no piece too long.

.venv/bin/python -m pytest tests/diary/test_chunking.py
"""

from hypothesis import given
from hypothesis import strategies as st

from services.diary.chunking import WORDS_A_CHUNK, chunks

PIECES = ["sea", "salt.", "leaf!", "(why?)", "rain…", "Dr.", "3.50", ";", "a\nb", "\n\n", " ", "é\u2003x"]
WORDS = st.sampled_from(PIECES)
LONG_TEXT = st.lists(WORDS | st.text(max_size=5), max_size=600).map(" ".join)


@given(LONG_TEXT | st.text())
def test_no_word_is_lost_or_moved(text: str):
    assert " ".join(chunks(text)).split() == text.split()


@given(LONG_TEXT)
def test_no_piece_is_empty_or_too_long(text: str):
    assert all(1 <= len(piece.split()) <= WORDS_A_CHUNK for piece in chunks(text))


@given(st.text().filter(str.strip))
def test_every_acceptable_entry_has_a_piece_to_be_found_by(text: str):
    assert chunks(text)


def test_a_short_entry_is_one_piece():
    text = "Rain until four. Then a clear cold evening."
    assert chunks(text) == [text]


def test_pieces_end_where_sentences_end():
    sentence = "one two three four five six seven eight nine ten."
    assert chunks(" ".join([sentence] * 25)) == [" ".join([sentence] * 12)] * 2 + [sentence]


def test_a_sentence_that_is_too_long_is_cut_between_words():
    words = [f"w{i}" for i in range(2 * WORDS_A_CHUNK + 1)]
    assert [len(piece.split()) for piece in chunks(" ".join(words))] == [WORDS_A_CHUNK, WORDS_A_CHUNK, 1]


def test_32_kib_of_one_letter_are_one_word():
    assert chunks("a" * 32 * 1024) == ["a" * 32 * 1024]


def test_32_kib_of_single_letters_keep_them_all():
    pieces = chunks("a " * 16 * 1024)
    assert sum(len(piece.split()) for piece in pieces) == 16 * 1024
    assert len(pieces) == -(-16 * 1024 // WORDS_A_CHUNK)


def test_empty_lines_make_no_pieces():
    assert chunks("\n\n\n") == []
    assert chunks("") == []
    assert chunks("\n\nMorning.\n\n \n\nEvening.\n") == ["Morning. Evening."]
