"""The same words twice, over all sources.

.venv/bin/python -m pytest tests/trainer/data/test_duplicates.py
"""

import csv
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data.duplicates import EXACT, NEAR, Duplicates, compared_words, triples
from trainer.data.sample import Sample, alternating_turns, make_sample

SAMPLES = Path(__file__).parents[3] / "data" / "samples"
some_words = st.lists(st.sampled_from(["The", "sea", "was", "cold", "and", "I", "swam", "out"]), max_size=60)


def telling(text: str, source: str = "journals", asking: str = "How was it?") -> Sample:
    return make_sample(source, "file:1", (asking,), text)


def stories() -> list[str]:
    with (SAMPLES / "hippocorpus.csv").open(encoding="utf-8", newline="") as file:
        return [row["story"] for row in csv.DictReader(file)]


def similarity(text: str, other: str) -> float:
    """Jaccard similarity of two tellings' word triples, counted out."""
    first, second = (triples(compared_words(telling(text))) for text in (text, other))
    return len(first & second) / len(first | second)


def changed(text: str, every: int) -> str:
    """The text with every so manieth word another."""
    return " ".join(
        "zebra" if index % every == every - 1 else word for index, word in enumerate(text.split())
    )


def test_a_text_that_comes_again_in_whatever_case_and_spacing_is_an_exact_duplicate():
    duplicates = Duplicates(0.8)
    assert duplicates.find(telling("I swam at Salthill.")) == ""
    assert duplicates.find(telling("I  SWAM at\n\nSalthill.", "reddit", "What did you do?")) == EXACT


def test_a_text_with_a_few_words_changed_is_a_near_duplicate_and_one_with_many_is_new():
    first, second, *_ = stories()
    for every, outcome in ((80, NEAR), (4, "")):
        duplicates = Duplicates(0.8)
        duplicates.find(telling(first))
        duplicates.find(telling(second))
        assert (similarity(first, changed(first, every)) >= 0.8) == (outcome == NEAR)
        assert duplicates.find(telling(changed(first, every))) == outcome


def test_near_duplicates_are_found_among_all_texts_of_a_source():
    duplicates = Duplicates(0.8)
    texts = stories()
    assert {duplicates.find(telling(text)) for text in texts} == {""}
    near = [changed(text, 60) for text in texts]
    similar = [similarity(text, other) for text, other in zip(texts, near, strict=True)]
    outcomes = [duplicates.find(telling(text)) == NEAR for text in near]
    assert sum(similar) / len(similar) > 0.88
    assert sum(outcomes) / len(outcomes) > 0.97
    assert not any(is_near and value < 0.8 for is_near, value in zip(outcomes, similar, strict=True))


@settings(deadline=None)
@given(text=some_words, other=some_words, threshold=st.sampled_from([0.3, 0.6, 0.8, 0.95, 1.0]))
def test_two_texts_less_alike_than_the_threshold_both_stay(
    text: list[str], other: list[str], threshold: float
):
    first, second = " ".join(text), " ".join(other)
    duplicates = Duplicates(threshold)
    assert duplicates.find(telling(first)) == ""
    outcome = duplicates.find(telling(second))
    if first.lower() == second.lower():
        assert outcome == EXACT
    elif similarity(first, second) < threshold:
        assert outcome == ""


def test_a_threshold_of_1_leaves_near_duplicates_alone():
    duplicates = Duplicates(1)
    text = stories()[0]
    assert duplicates.find(telling(text)) == ""
    assert duplicates.find(telling(f"{text} Yes.")) == ""
    assert duplicates.find(telling(text)) == EXACT


def test_the_same_answer_to_another_question_is_another_conversation():
    duplicates = Duplicates(0.8)
    for question, outcome in (("Tea?", ""), ("Coffee?", ""), ("Tea?", EXACT)):
        sample = Sample("conversations", "file:1", alternating_turns(question, "Yes, please."))
        assert duplicates.find(sample) == outcome


@pytest.mark.parametrize("text", ["", "👍", "…", "one", "one two"])
def test_a_text_without_three_words_is_its_own_triple(text: str):
    assert triples(text) == {text}
    duplicates = Duplicates(0.8)
    assert duplicates.find(telling(text)) == ""
    assert duplicates.find(telling(text)) == EXACT
    assert duplicates.find(telling("another")) == ""


@pytest.mark.parametrize("threshold", [0.01, 0.1, 0.5, 0.99, 1])
def test_any_threshold_can_be_asked_for(threshold: float):
    assert Duplicates(threshold).find(telling("I swam at Salthill.")) == ""
