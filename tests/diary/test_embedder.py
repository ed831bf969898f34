"""The real all-MiniLM-L6-v2, and models that are not there.

.venv/bin/python -m pytest tests/diary/test_embedder.py
"""

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import huggingface_hub.constants
import pytest

from services.diary.embedder import SentenceTransformerEmbedder, Vector
from services.errors import ConfigError

SENTENCES = [
    "The vet pulled out one of the cat's teeth.",
    "The train to Dublin was late again.",
    "She sewed the pages of the old book together.",
]


def nearest(question: Vector, vectors: list[Vector]) -> int:
    scores = [sum(a * b for a, b in zip(question, vector, strict=True)) for vector in vectors]
    return scores.index(max(scores))


def test_vectors_have_384_numbers_and_unit_length(minilm: SentenceTransformerEmbedder):
    assert minilm.dimension == 384
    for vector in [*minilm.embed_documents([*SENTENCES, "a", "語 " * 9000]), minilm.embed_query("Who?")]:
        assert len(vector) == 384
        assert math.hypot(*vector) == pytest.approx(1.0, abs=1e-5)


def test_it_carries_the_name_it_was_asked_for(minilm: SentenceTransformerEmbedder):
    assert minilm.name == "sentence-transformers/all-MiniLM-L6-v2"


@pytest.mark.parametrize(
    ("question", "answer"),
    [("What happened to your pet's mouth?", 0), ("Was the railway on time?", 1), ("Do you mend volumes?", 2)],
)
def test_the_nearest_sentence_is_the_one_that_answers(
    minilm: SentenceTransformerEmbedder, question: str, answer: int
):
    assert nearest(minilm.embed_query(question), minilm.embed_documents(SENTENCES)) == answer


def test_a_text_alone_and_among_others_has_the_same_vector(minilm: SentenceTransformerEmbedder):
    alone = minilm.embed_query(SENTENCES[1])
    assert minilm.embed_documents(SENTENCES)[1] == pytest.approx(alone, abs=1e-4)


def test_no_texts_have_no_vectors(minilm: SentenceTransformerEmbedder):
    assert minilm.embed_documents([]) == []


def test_two_threads_may_ask_at_once(minilm: SentenceTransformerEmbedder):
    expected = [minilm.embed_query(sentence) for sentence in SENTENCES]

    def ask(_: int) -> list[Vector]:
        return [minilm.embed_query(sentence) for _ in range(10) for sentence in SENTENCES]

    with ThreadPoolExecutor(2) as pool:
        for answers in pool.map(ask, range(2)):
            for number, answer in enumerate(answers):
                assert answer == pytest.approx(expected[number % 3], abs=1e-4)


class TestModelsThatAreNotThere:
    @pytest.fixture(autouse=True)
    def offline(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """HF_HUB_OFFLINE itself is read once, by whoever imports the library first."""
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)

    @pytest.mark.parametrize("model", ["nobody/no-such-model", "no-such-model", "/no/such/folder", ""])
    def test_an_unknown_model_is_a_wrong_setting(self, model: str):
        with pytest.raises(ConfigError, match="EMBEDDING_MODEL"):
            SentenceTransformerEmbedder(model)

    def test_a_folder_without_a_model_is_a_wrong_setting(self, tmp_path: Path):
        with pytest.raises(ConfigError, match="EMBEDDING_MODEL"):
            SentenceTransformerEmbedder(str(tmp_path))

    def test_a_damaged_model_is_a_wrong_setting(self, tmp_path: Path):
        (tmp_path / "config.json").write_text('{"model_type": "bert"}')
        (tmp_path / "model.safetensors").write_bytes(b"no weights")
        with pytest.raises(ConfigError, match="EMBEDDING_MODEL"):
            SentenceTransformerEmbedder(str(tmp_path))
