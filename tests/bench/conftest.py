"""A conversation in LoCoMo's form, written for these tests."""

from pathlib import Path
from typing import Any

import pytest


def turn(turn_id: str, speaker: str, text: str, **more: Any) -> dict[str, Any]:
    return {"dia_id": turn_id, "speaker": speaker, "text": text, **more}


@pytest.fixture
def conversation() -> dict[str, Any]:
    """Two sessions, and a question of each of three categories; one has no evidence, one a broken id."""
    return {
        "sample_id": "conv-x",
        "conversation": {
            "speaker_a": "Nora",
            "speaker_b": "Piet",
            "session_2_date_time": "9:05 am on 1 June, 2023",
            "session_2": [
                turn("D2:1", "Nora", "I sold the old sailing boat yesterday."),
                turn("D2:2", "Piet", "Who bought it?"),
                turn("D2:3", "Nora", "A dentist\nfrom Cork.", blip_caption="a man with a rope"),
            ],
            "session_1_date_time": "1:56 pm on 8 May, 2023",
            "session_1": [
                turn("D1:1", "Nora", "My sister keeps bees on her roof."),
                turn("D1:2", "Piet", "How many hives has she got?"),
                turn("D1:3", "Nora", "Four, and she sells the honey at the market."),
                turn("D1:4", "Piet", "I only have a cactus."),
            ],
        },
        "qa": [
            {"question": "What does Piet have?", "evidence": ["D1:4"], "category": 4, "answer": "a cactus"},
            {"question": "Who bought the boat in June?", "evidence": ["D2:3"], "category": 2},
            {
                "question": "Which animals and vessels?",
                "evidence": ["D1:1; D02:1", "D", "D9:9"],
                "category": 1,
            },
            {"question": "Is Nora kind?", "evidence": [], "category": 3},
            {"question": "Is Piet kind?", "category": 3},
        ],
    }


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "locomo.json"
