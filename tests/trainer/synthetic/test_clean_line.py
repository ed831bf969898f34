"""A line: what models write around a speaker's words is gone, the words are as they were.

.venv/bin/python -m pytest tests/trainer/synthetic/test_clean_line.py
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.synthetic.clean_line import clean_line

ADA, DREW = ("Ada", "assistant", "AI"), ("Drew", "user", "human")
noise = st.text(st.characters()) | st.text(st.sampled_from("Ada: Drew \n*()[]\"'“”<think>|_.?"), max_size=60)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ("I was swimming.", "I was swimming."),
        ("  I was\tswimming. \n\n\n\n Cold. ", "I was swimming.\n\nCold."),
        ('"I was swimming."', "I was swimming."),
        ("“I was swimming.”", "I was swimming."),
        ("Ada: I was swimming.", "I was swimming."),
        ("**Ada:** I was swimming.", "I was swimming."),
        ('Ada (smiling): "I was swimming."', "I was swimming."),
        ("Ada says: “I was swimming.”", "I was swimming."),
        ("ADA:\nI was swimming.", "I was swimming."),
        ("Assistant: I was swimming.", "I was swimming."),
        ("I was swimming.\nDrew: Was it cold?\nAda: It was.", "I was swimming."),
        ("I was swimming. Drew: Was it cold?", "I was swimming."),
        ("I was swimming.\n\nUser: Was it cold?", "I was swimming."),
        ("Drew: Was it cold?\nAda: It was.", "It was."),
        ("Drew: Was it cold?", ""),
        ("*smiles* I was swimming.", "I was swimming."),
        ("I was swimming. *laughs softly* It was cold.", "I was swimming. It was cold."),
        ("I was swimming. *puts the cup down*", "I was swimming."),
        ("It was *really* cold.", "It was really cold."),
        ("It was **really** cold.", "It was really cold."),
        ("(laughs) I was swimming.", "I was swimming."),
        ("I was swimming. [pauses] It was cold.", "I was swimming. It was cold."),
        ("<think>She swims on Mondays.</think>\n\nI was swimming.", "I was swimming."),
        ("<think>She swims on Mondays, so", ""),
        ("I was swimming.<|im_end|>\n<|im_start|>Drew\n", "I was swimming."),
        ("<|im_start|>Ada\nI was swimming.</s>", "I was swimming."),
        ("I was \ud83d swim\x00ming.", "I was swimming."),
    ],
)
def test_only_the_speakers_words_are_left(raw: str, words: str):
    assert clean_line(raw, ADA, DREW) == words


@pytest.mark.parametrize(
    "words",
    [
        '"Left hip," she said, and then: "bunion."',
        "Dear Drew,\n\nThe sea was flat.\n\nLove,\nAda",
        "He said Drew: as if it were a title.",
        "I swam (it was cold) and went home.",
        "'Tis the cold I mind, not the wet.",
        "I owe you [your name] and more",
    ],
)
def test_words_that_only_look_like_it_stay(words: str):
    assert clean_line(words, ADA, DREW) == words


def test_either_speaker_can_be_the_one_who_is_wanted():
    both = "Drew: Was it cold?\nAda: It was."
    assert clean_line(both, DREW, ADA) == "Was it cold?"


@given(noise)
def test_a_clean_line_is_clean_and_can_be_written(raw: str):
    words = clean_line(raw, ADA, DREW)
    assert clean_line(words, ADA, DREW) == words
    assert words == words.strip()
    assert not words.lower().startswith(("ada:", "drew:"))
    words.encode()
