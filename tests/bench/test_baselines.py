"""The baselines rank as their definitions say.

.venv/bin/python -m pytest tests/bench/test_baselines.py
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compass import Compass
from locomo_file import read

from services.bench import baselines
from services.bench.locomo import Conversation


@pytest.fixture
def scores(file: Path, conversation: dict[str, Any]) -> dict[str, baselines.Scores]:
    conversation["qa"] = [
        {"question": "Whose cactus?", "evidence": ["D1:4"], "category": 4},
        {"question": "Which dentist bought a boat?", "evidence": ["D2:3"], "category": 4},
    ]
    (one,) = read(file, conversation)
    return baselines.scores(one, Compass())


def test_every_baseline_has_a_score_for_each_question_and_turn(scores: dict[str, baselines.Scores]):
    assert list(scores) == ["BM25", "MiniLM", "both by ranks", "both by min-max", "min-max and previous turn"]
    assert all(found.shape == (2, 7) for found in scores.values())


@pytest.mark.parametrize("name", [baselines.BM25, baselines.MINILM, baselines.RRF, baselines.MINMAX])
def test_the_turn_with_the_words_comes_first(scores: dict[str, baselines.Scores], name: str):
    assert scores[name].argmax(axis=1).tolist()[0] == 3


def test_bm25_is_okapis(file: Path, conversation: dict[str, Any]):
    """By hand, for the one word that only one of seven turns has."""
    (one,) = read(file, conversation)
    asked = [question.text for question in one.questions]
    found = baselines.scores(one, Compass())[baselines.BM25][asked.index("What does Piet have?")]
    lengths = [len(baselines._words(text)) for text in baselines._dated_texts(one)]
    norm = 1.5 * (0.25 + 0.75 * lengths[3] / np.mean(lengths))
    have = math.log(6.5 / 1.5) * 2.5 / (1 + norm)
    piet = math.log(4.5 / 3.5) * 2.5 / (1 + norm)  # in three of seven
    assert found[3] == pytest.approx(have + piet)
    assert found[0] == 0.0


def test_the_previous_turn_is_that_of_the_same_session(file: Path, conversation: dict[str, Any]):
    (one,) = read(file, conversation)
    texts = baselines._texts_with_previous(one)
    assert texts[1] == "Nora: My sister keeps bees on her roof. Piet: How many hives has she got?"
    assert texts[4] == "Nora: I sold the old sailing boat yesterday."


def test_a_file_of_one_turn_divides_by_nothing(file: Path):
    said = {"dia_id": "D1:1", "speaker": "Nora", "text": "Hm."}
    session = {"session_1": [said], "session_1_date_time": "1:56 pm on 8 May, 2023"}
    asked = [{"question": "Hm?", "evidence": ["D1:1"], "category": 4}]
    (one,) = read(file, {"conversation": session, "qa": asked})
    assert isinstance(one, Conversation)
    assert all(np.isfinite(found).all() for found in baselines.scores(one, Compass()).values())
