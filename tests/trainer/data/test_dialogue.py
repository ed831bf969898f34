"""From a sample to a dialogue: how Drew asks, where he says go on, and what the diary shows.

.venv/bin/python -m pytest tests/trainer/data/test_dialogue.py
"""

import random
from datetime import date
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.diary.recall.excerpt import MAX_ENTRY_CHARACTERS
from services.diary.recall.recall import BUDGET_CHARACTERS
from services.orchestrator.openai.schemas import ChatRequest
from services.persona.persona import load_persona
from services.persona.prompt import build_messages
from trainer.config import TrainingConfig
from trainer.data.dialogue import (
    CONTINUATIONS,
    FIRST_DAY,
    LAST_DAY,
    RELEVANT_SHARE,
    SHORT_END,
    leading_sentences,
    split,
    to_dialogue,
)
from trainer.data.sample import Sample, alternating_turns, make_sample

ASKINGS = ("How was your day?", "What did you do?", "Tell me.")
PLAIN = TrainingConfig(diary_share=0)
RECALLING = TrainingConfig(diary_share=1)
paragraphs = st.lists(
    st.integers(1, 90).map(lambda words: " ".join(["word"] * words)), min_size=1, max_size=12
)


def telling(text: str, number: int = 0, summary: str = "") -> Sample:
    return make_sample("journals", f"file:{number}", ASKINGS, text, summary)


def others(count: int = 20) -> list[Sample]:
    return [telling(f"Other {n} said so. And more of it.", n + 1) for n in range(count)]


def tell_by_chance(
    sample: Sample, seed: int = 0, repetition: int = 0, config: TrainingConfig = PLAIN
) -> Sample:
    return to_dialogue(sample, random.Random(seed), repetition, config, others())


def contents(sample: Sample, role: str) -> list[str]:
    return [turn["content"] for turn in sample.turns if turn["role"] == role]


# How Drew asks


def test_each_repetition_is_asked_for_in_another_way():
    sample = telling("I swam at Salthill.")
    prompts = [tell_by_chance(sample, n, n).turns[0]["content"] for n in range(4)]
    assert set(prompts[:3]) == set(ASKINGS)
    assert prompts[3] == prompts[0]


def test_the_first_asking_is_not_the_same_for_all():
    prompts = {tell_by_chance(telling(f"I swam {n} times.")).turns[0]["content"] for n in range(40)}
    assert prompts == set(ASKINGS)


def test_a_conversation_stays_as_it_is():
    sample = Sample("conversations", "file:1", alternating_turns("Tea?", "Yes. " * 400, "Milk?", "No."))
    assert tell_by_chance(sample) == sample


# Turns


def test_a_short_telling_is_one_turn_whatever_its_paragraphs():
    sample = tell_by_chance(telling("One.\n\nTwo.\n\nThree."))
    assert contents(sample, "assistant") == ["One.\n\nTwo.\n\nThree."]


def test_a_long_telling_is_told_in_turns_between_which_drew_says_go_on():
    text = "\n\n".join(f"{n} " + "word " * 99 for n in range(6)).strip()
    sample = tell_by_chance(telling(text))
    assert [turn["role"] for turn in sample.turns] == ["user", "assistant"] * 3
    assert [len(turn.split()) for turn in contents(sample, "assistant")] == [200, 200, 200]
    prompts, *continuations = contents(sample, "user")
    assert prompts in ASKINGS
    assert set(continuations) <= set(CONTINUATIONS)
    assert len(set(continuations)) == len(continuations)


def test_drew_does_not_always_say_the_same():
    text = "\n\n".join(["word " * 200] * 3)
    continuations = {
        words for seed in range(60) for words in contents(tell_by_chance(telling(text), seed), "user")[1:]
    }
    assert continuations == set(CONTINUATIONS)


def test_a_telling_of_more_turns_than_there_are_ways_to_say_go_on():
    text = "\n\n".join(f"{n} " + "word " * 199 for n in range(20))
    sample = tell_by_chance(telling(text))
    assert len(sample.turns) == 40


@given(parts=paragraphs, turn_words=st.integers(20, 120), border=st.sampled_from(["\n\n", "\n"]))
def test_turns_are_cut_at_paragraphs_alone_and_no_longer_than_asked_unless_one_paragraph_is(
    parts: list[str], turn_words: int, border: str
):
    turn_texts = split(border.join(parts), turn_words)
    assert border.join(turn_texts) == border.join(parts)
    longest = max(turn_words, *(len(part.split()) for part in parts))
    assert all(len(part.split()) <= longest + turn_words / SHORT_END for part in turn_texts)


@given(parts=paragraphs, turn_words=st.integers(20, 120))
def test_short_paragraphs_stay_together(parts: list[str], turn_words: int):
    words = sum(len(part.split()) for part in parts)
    turn_lengths = [len(part.split()) for part in split("\n\n".join(parts), turn_words)]
    if words <= turn_words:
        assert len(turn_lengths) == 1
    # A turn is closed early only for its share of the whole, or because the next paragraph would not fit.
    limit = min(turn_words, words / -(-words // turn_words))
    assert all(length + following > limit for length, following in pairwise(turn_lengths))


def test_blank_lines_are_borders_before_single_ones():
    verse = "a line\n" * 10
    assert split(f"{verse}\n{verse}".strip(), 32) == [verse.strip()] * 2


def test_turns_are_of_about_one_length():
    text = "\n\n".join(["word " * 60] * 4 + ["The end. " * 10])
    assert [len(part.split()) for part in split(text, 250)] == [180, 80]


def test_a_short_end_does_not_stand_alone():
    text = "\n\n".join(["word " * 400, "word " * 300, "Edit: thank you all!"])
    assert [len(part.split()) for part in split(text, 250)] == [400, 304]


# The diary


def test_as_many_samples_carry_a_diary_block_as_the_config_says():
    config = TrainingConfig(diary_share=0.1)
    samples = [telling(f"I swam {n} times.", -n) for n in range(2000)]
    samples += [
        Sample("conversations", f"talk:{n}", alternating_turns(f"Swim {n}?", "Yes.")) for n in range(2000)
    ]
    for half in (samples[:2000], samples[2000:]):
        recalled = [tell_by_chance(sample, n, config=config).recalled for n, sample in enumerate(half)]
        assert 140 < sum(map(bool, recalled)) < 260
    assert not any(tell_by_chance(sample).recalled for sample in samples)
    assert all(tell_by_chance(sample, config=RECALLING).recalled for sample in samples)


def test_three_of_four_blocks_hold_what_she_then_tells_and_the_others_do_not():
    sample = telling("I swam at Salthill today. It was cold. Marta shouted.")
    recalled = [tell_by_chance(sample, seed, config=RECALLING).recalled for seed in range(1000)]
    own = [[entry.text for entry in entries if "Salthill" in entry.text] for entries in recalled]
    assert all(len(texts) <= 1 for texts in own)
    assert abs(sum(map(len, own)) / len(own) - RELEVANT_SHARE) < 0.05
    assert {len(entries) for entries in recalled} == {1, 2, 3, 4, 5, 6}


def test_what_fits_is_the_gist_or_how_the_last_answer_begins():
    def own(sample: Sample) -> set[str]:
        recalled = [tell_by_chance(sample, seed, config=RECALLING).recalled for seed in range(20)]
        return {entry.text for entries in recalled for entry in entries if not entry.text.startswith("Other")}

    assert own(telling("I swam today. It was cold. We ate chips.", summary="I swam at Salthill.")) == {
        "I swam at Salthill."
    }
    assert own(telling("I swam today. It was cold. We ate chips.")) == {"I swam today."}
    talk = Sample(
        "conversations",
        "talk:1",
        alternating_turns("Swim?", "Yes, I did.", "And?", "It was cold. We ate chips."),
    )
    assert own(talk) == {"It was cold."}


def test_no_other_entry_is_the_samples_own():
    sample = telling("I swam today.", number=3)
    for seed in range(20):
        recalled = to_dialogue(sample, random.Random(seed), 0, RECALLING, [sample]).recalled
        assert [entry.text for entry in recalled] == ["I swam today."]


@given(
    text=st.text(min_size=1).filter(str.strip),
    other=st.text(min_size=1, max_size=4000).filter(str.strip),
    seed=st.integers(0, 1000),
    times=st.sampled_from([1, 50]),
)
def test_no_block_shows_more_than_serving_does(text: str, other: str, seed: int, times: int):
    distractors = [telling(other * times, n) for n in range(1, 10)]
    recalled = to_dialogue(telling(text * times), random.Random(seed), 0, RECALLING, distractors).recalled
    assert 1 <= len(recalled) <= ChatRequest.model_fields["ada"].annotation.model_fields["top_k"].default
    assert all(0 < len(entry.text) <= MAX_ENTRY_CHARACTERS for entry in recalled)
    assert sum(len(entry.text) for entry in recalled) <= BUDGET_CHARACTERS


def test_entries_are_dated_and_the_newest_stands_last():
    for seed in range(50):
        days = [entry.date for entry in tell_by_chance(telling("I swam."), seed, config=RECALLING).recalled]
        assert days == sorted(days)
        assert all(FIRST_DAY <= date.fromisoformat(day) <= LAST_DAY for day in days)


def test_the_block_stands_before_drews_last_words_as_in_serving():
    sample = tell_by_chance(telling("\n\n".join(["word " * 200] * 3)), config=RECALLING)
    messages = build_messages(load_persona(), sample.turns, sample.recalled)
    assert [message["role"] for message in messages[-3:]] == ["system", "user", "assistant"]
    assert all(f"[{entry.date}] {entry.text}" in messages[-3]["content"] for entry in sample.recalled)


# How an entry begins


@pytest.mark.parametrize(
    ("text", "characters", "at_most", "begins"),
    [
        ("One. Two. Three.", 20, 20, "One. Two. Three."),
        ("One. Two. Three.", 10, 20, "One. Two."),
        ("One. Two. Three.", 2, 20, "One."),
        (
            "Mrs. Alder and Dr. Lynch met Mr. Darcy. Then they left.",
            42,
            60,
            "Mrs. Alder and Dr. Lynch met Mr. Darcy.",
        ),
        ("I saw Dr. Lynch. I left.", 10, 20, "I saw Dr. Lynch."),
        ('"Why?" she said. I left.', 12, 30, '"Why?" she said.'),
        ("one two three four five", 12, 12, "one two …"),
        ("x" * 30, 12, 12, "x" * 10 + " …"),
        ("One\n\ntwo. Three.", 9, 20, "One two."),
    ],
)
def test_an_opening_is_whole_sentences_where_it_can_be(text: str, characters: int, at_most: int, begins: str):
    assert leading_sentences(text, characters, at_most) == begins


@given(text=st.text(), characters=st.integers(0, 300), at_most=st.integers(10, 300))
@example(text=" ", characters=0, at_most=10)
def test_an_opening_is_never_longer_than_may_be(text: str, characters: int, at_most: int):
    begins = leading_sentences(text, characters, at_most)
    assert len(begins) <= at_most
    assert " ".join(text.split()).startswith(begins.removesuffix(" …"))
