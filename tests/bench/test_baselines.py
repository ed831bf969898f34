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
    (loaded,) = read(file, conversation)
    return baselines.scores(loaded, Compass())


def test_every_baseline_has_a_score_for_each_question_and_turn(scores: dict[str, baselines.Scores]):
    assert list(scores) == ["BM25", "MiniLM", "both by ranks", "both by min-max", "min-max and previous turn"]
    assert all(scores_by_turn.shape == (2, 7) for scores_by_turn in scores.values())


@pytest.mark.parametrize("name", [baselines.BM25, baselines.MINILM, baselines.RRF, baselines.MINMAX])
def test_the_turn_with_the_words_comes_first(scores: dict[str, baselines.Scores], name: str):
    assert scores[name].argmax(axis=1).tolist()[0] == 3


def test_bm25_is_okapis(file: Path, conversation: dict[str, Any]):
    """By hand, for the one word that only one of seven turns has."""
    (loaded,) = read(file, conversation)
    questions = [question.text for question in loaded.questions]
    scores_by_turn = baselines.scores(loaded, Compass())[baselines.BM25][
        questions.index("What does Piet have?")
    ]
    lengths = [len(baselines._words(text)) for text in baselines._dated_texts(loaded)]
    norm = 1.5 * (0.25 + 0.75 * lengths[3] / np.mean(lengths))
    have = math.log(6.5 / 1.5) * 2.5 / (1 + norm)
    piet = math.log(4.5 / 3.5) * 2.5 / (1 + norm)  # in three of seven
    assert scores_by_turn[3] == pytest.approx(have + piet)
    assert scores_by_turn[0] == 0.0


def test_the_previous_turn_is_that_of_the_same_session(file: Path, conversation: dict[str, Any]):
    (loaded,) = read(file, conversation)
    texts = baselines._texts_with_previous(loaded)
    assert texts[1] == "Nora: My sister keeps bees on her roof. Piet: How many hives has she got?"
    assert texts[4] == "Nora: I sold the old sailing boat yesterday."


def test_a_file_of_one_turn_divides_by_nothing(file: Path):
    turn = {"dia_id": "D1:1", "speaker": "Nora", "text": "Hm."}
    session = {"session_1": [turn], "session_1_date_time": "1:56 pm on 8 May, 2023"}
    questions = [{"question": "Hm?", "evidence": ["D1:1"], "category": 4}]
    (loaded,) = read(file, {"conversation": session, "qa": questions})
    assert isinstance(loaded, Conversation)
    assert all(
        np.isfinite(scores_by_turn).all() for scores_by_turn in baselines.scores(loaded, Compass()).values()
    )
