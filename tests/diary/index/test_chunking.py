"""Entries in pieces: no word lost, no piece too long, each as it stands in the text.

.venv/bin/python -m pytest tests/diary/index/test_chunking.py
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.diary.index.chunking import MANY_CHUNKS, MAX_WORDS_PER_CHUNK, chunks, spans
from services.diary.index.unspaced_scripts import count_words, split_bigrams

PIECES = [
    "sea",
    "salt.",
    "leaf!",
    "(why?)",
    "rain…",
    "Dr.",
    "3.50",
    ";",
    "a\nb",
    "B.\nC",
    "\n\n",
    " ",
    "é\u2003x",
]
WORDS = st.sampled_from(PIECES)
LONG_TEXT = st.lists(WORDS | st.text(max_size=5), max_size=600).map(" ".join)


@given((LONG_TEXT | st.text()).filter(lambda text: split_bigrams(text) == text))
def test_no_word_is_lost_or_moved(text: str):
    assert " ".join(chunks(text)).split() == text.split()


@given(LONG_TEXT | st.text())
def test_pieces_stand_in_the_text_one_after_the_other_with_nothing_but_space_between(text: str):
    end = 0
    for start, stop in spans(text):
        assert end <= start < stop <= len(text)
        assert not text[end:start].strip()
        end = stop
    assert not text[end:].strip()


@given(LONG_TEXT)
def test_no_piece_is_empty_or_too_long(text: str):
    assert all(1 <= len(piece.split()) <= MAX_WORDS_PER_CHUNK for piece in chunks(text))


@given(st.text().filter(str.strip))
def test_every_acceptable_entry_has_a_piece_to_be_found_by(text: str):
    assert chunks(text)


def test_a_short_entry_is_one_piece():
    text = "Rain until four. Then a clear cold evening."
    assert chunks(text) == [text]


def test_each_line_is_a_piece():
    assert chunks("Caroline said, “Hi!”\nMel said, “Oh, hi.”\r\nCaroline left.") == [
        "Caroline said, “Hi!”",
        "Mel said, “Oh, hi.”",
        "Caroline left.",
    ]


@pytest.mark.parametrize("end", ["the long", "the tide,", "the tide; ", "half-"])
def test_a_line_that_goes_on_in_lower_case_was_only_wrapped(end: str):
    text = f"We walked along {end}\nand came home late.\nThen it rained."
    first, second = chunks(text)
    assert first == f"We walked along {end}\nand came home late."
    assert second == "Then it rained."


@pytest.mark.parametrize("text", ["We walked.\nand came home", "We walked\n\nand came home", "Walk\nHome"])
def test_a_line_that_is_done_is_a_piece_whatever_follows(text: str):
    assert len(chunks(text)) == 2


def test_pieces_of_a_long_line_end_where_sentences_end():
    sentence = "one two three four five six seven eight nine ten."
    twelve = " ".join([sentence] * 12)
    assert chunks(" ".join([sentence] * 25)) == [twelve, twelve, sentence]


def test_a_sentence_may_end_in_a_quote():
    quoted = "she said " * 30 + "“come home.”"
    assert chunks(" ".join([quoted] * 3)) == [quoted] * 3


def test_a_sentence_that_is_too_long_is_cut_between_words():
    words = [f"w{i}" for i in range(2 * MAX_WORDS_PER_CHUNK + 1)]
    assert [len(piece.split()) for piece in chunks(" ".join(words))] == [
        MAX_WORDS_PER_CHUNK,
        MAX_WORDS_PER_CHUNK,
        1,
    ]


def test_32_kib_of_one_letter_are_one_word():
    assert chunks("a" * 32 * 1024) == ["a" * 32 * 1024]


@pytest.mark.parametrize("separator", [" ", "\n", "\n\n", ".\n"])
def test_32_kib_of_single_letters_are_all_kept_in_a_bearable_number_of_pieces(separator: str):
    """Each piece is embedded: sixteen thousand of them would keep the worker busy for long."""
    text = ("B" + separator) * (32 * 1024 // (1 + len(separator)))
    pieces = chunks(text)
    assert " ".join(pieces).split() == text.split()
    assert len(pieces) <= 2 * MANY_CHUNKS


def test_empty_lines_make_no_pieces():
    assert chunks("\n\n\n") == []
    assert chunks("") == []
    assert chunks("\n\nMorning.\n\n \n\nEvening.\n") == ["Morning.", "Evening."]


UNSPACED = st.text(
    st.sampled_from("我昨天决定不卖房子。猫が窓のそばで寝ていた！ฉันไม่ขายบ้านa \n"), max_size=2000
)


@given(UNSPACED)
def test_in_scripts_without_spaces_no_character_is_lost_and_no_piece_too_long(text: str):
    pieces = chunks(text)
    assert "".join("".join(pieces).split()) == "".join(text.split())
    assert all(1 <= count_words(piece) <= MAX_WORDS_PER_CHUNK for piece in pieces)


@pytest.mark.parametrize("sentence", ["昨日は雨が降りました。", "我昨天决定不卖房子！", "ฉันไม่ขายบ้าน"])
def test_a_long_entry_without_spaces_is_many_pieces(sentence: str):
    assert len(chunks(sentence * 100)) >= 8


def test_pieces_end_where_sentences_of_japanese_and_chinese_do():
    assert all(piece.endswith("。") for piece in chunks("昨日は雨が降りました。" * 40))
