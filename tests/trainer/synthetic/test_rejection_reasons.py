"""Faults that a line shows by itself, and near-duplicates.

.venv/bin/python -m pytest tests/trainer/synthetic/test_rejection_reasons.py
"""

import pytest

from trainer.data.sample import alternating_turns
from trainer.synthetic.near_duplicates import NearDuplicates
from trainer.synthetic.rejection_reasons import (
    AI,
    DUPLICATE,
    EMPTY,
    LONG,
    PLACEHOLDER,
    SHORT,
    Rejected,
    check_line,
)

STORY = "On Monday I went down to the sea with Marta before work and the water was so cold that neither spoke"


def reason(words: str, word_range: tuple[int, int] = (1, 100)) -> str:
    with pytest.raises(Rejected) as rejected:
        check_line(words, word_range)
    return rejected.value.reason


@pytest.mark.parametrize(
    "words",
    [
        "As an AI, I have no birthday.",
        "I'm just a language model.",
        "I am an AI.",
        "I don't have a physical body.",
        "I don't have personal experiences.",
        "I cannot have feelings.",
        "I was trained on books.",
        "How can I assist you today?",
        "I am Qwen.",
    ],
)
def test_a_line_that_speaks_as_an_ai_is_thrown_away(words: str):
    assert reason(words) == AI


def test_a_life_with_training_bodies_and_feelings_is_no_ai():
    check_line("My training in Sussex was long. I was trained by a binder. My toe has no feeling.", (1, 99))
    check_line("I don't have a cup to my name, and my body aches. The kiln is a machine.", (1, 99))


def test_a_line_keeps_to_its_length_within_twice_and_half():
    assert reason("", (1, 5)) == EMPTY
    assert reason("word " * 9, (20, 30)) == SHORT
    assert reason("word " * 61, (20, 30)) == LONG
    check_line("word " * 10, (20, 30))
    check_line("word " * 60, (20, 30))


@pytest.mark.parametrize("words", ["Dear [your name], hello.", "Ask {user name} for it.", "Love, <name>"])
def test_a_placeholder_is_thrown_away(words: str):
    assert reason(words) == PLACEHOLDER


def test_a_near_duplicate_of_what_was_told_is_found():
    earlier = NearDuplicates([alternating_turns("And Monday?", STORY)])
    with pytest.raises(Rejected) as rejected:
        earlier.add(alternating_turns("How was the swim?", f"{STORY}."))
    assert rejected.value.reason == DUPLICATE


def test_the_same_question_with_another_answer_is_no_duplicate():
    earlier = NearDuplicates([alternating_turns("And Monday?", STORY)])
    earlier.add(
        alternating_turns("And Monday?", "I stayed in and mended the hinge of a bible nobody will open again")
    )
    earlier.add(alternating_turns("And Monday?", "No."))
    with pytest.raises(Rejected):
        earlier.add(alternating_turns("And Tuesday?", "No."))
