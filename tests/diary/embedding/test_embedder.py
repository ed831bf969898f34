"""The real all-MiniLM-L6-v2 by every back end, and models that are not there.

.venv/bin/python -m pytest tests/diary/embedding/test_embedder.py
"""

import math
import random
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from sentence_transformers import SentenceTransformer

from services.diary.embedding import embedder
from services.diary.embedding.embedder import (
    Backend,
    SentenceTransformerEmbedder,
    Vector,
    choose_backend,
    open_embedder,
)
from services.diary.embedding.onnx_encoder import OnnxEncoder, convert
from services.diary.settings import DiarySettings
from services.errors import ConfigError

SENTENCES = [
    "The vet pulled out one of the cat's teeth.",
    "The train to Dublin was late again.",
    "She sewed the pages of the old book together.",
]
QUESTIONS = ["What happened to your pet's mouth?", "Was the railway on time?", "Do you mend volumes?"]


def cosine(vector: Vector, other: Vector) -> float:
    return sum(a * b for a, b in zip(vector, other, strict=True))


def nearest(question: Vector, vectors: list[Vector]) -> int:
    scores = [cosine(question, vector) for vector in vectors]
    return scores.index(max(scores))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("encoder")


has_onnx = pytest.mark.skipif(not embedder.onnx_installed(), reason="the extra `onnx` is not installed")


@pytest.fixture(scope="module", params=["torch", "bf16", pytest.param("onnx-int8", marks=has_onnx)])
def each(request: pytest.FixtureRequest, cache: Path) -> SentenceTransformerEmbedder:
    """MiniLM by each back end."""
    return SentenceTransformerEmbedder(backend=request.param, cache=cache)


@pytest.fixture(scope="module")
def exact() -> SentenceTransformerEmbedder:
    """MiniLM as it was published."""
    return SentenceTransformerEmbedder(backend="torch")


@pytest.fixture(scope="module")
def prefixed() -> SentenceTransformerEmbedder:
    return SentenceTransformerEmbedder(backend="torch", query_prefix="query: ", document_prefix="passage: ")


class TestEachBackEnd:
    def test_vectors_have_384_numbers_and_unit_length(self, each: SentenceTransformerEmbedder):
        assert each.dimension == 384
        for vector in [*each.embed_documents([*SENTENCES, "a", "語 " * 9000]), each.embed_query("Who?")]:
            assert len(vector) == 384
            assert math.hypot(*vector) == pytest.approx(1.0, abs=1e-5)

    def test_its_vectors_are_those_of_the_others(
        self, each: SentenceTransformerEmbedder, exact: SentenceTransformerEmbedder
    ):
        """So that the back end can be changed without a reindexing."""
        texts = [*SENTENCES, *QUESTIONS, " ".join(SENTENCES * 5)]
        pairs = zip(each.embed_documents(texts), exact.embed_documents(texts), strict=True)
        assert min(cosine(vector, other) for vector, other in pairs) > 0.97

    @pytest.mark.parametrize(("question", "answer"), list(zip(QUESTIONS, range(3), strict=True)))
    def test_the_nearest_sentence_is_the_one_that_answers(
        self, each: SentenceTransformerEmbedder, question: str, answer: int
    ):
        assert nearest(each.embed_query(question), each.embed_documents(SENTENCES)) == answer

    def test_a_text_alone_and_among_others_of_all_lengths_has_the_same_vector(
        self, each: SentenceTransformerEmbedder
    ):
        chance = random.Random(2)
        texts = [" ".join(chance.choices(SENTENCES[0].split(), k=chance.randrange(1, 80))) for _ in range(40)]
        batch_vectors = each.embed_documents(texts)
        for number in (0, 7, 39):
            [alone] = each.embed_documents([texts[number]])
            assert cosine(batch_vectors[number], alone) > 0.999

    def test_no_texts_have_no_vectors(self, each: SentenceTransformerEmbedder):
        assert each.embed_documents([]) == []

    def test_many_threads_may_ask_and_write_at_once(self, each: SentenceTransformerEmbedder):
        expected = each.embed_documents(SENTENCES)

        def ask(number: int) -> Vector:
            if number % 2:
                return each.embed_query(SENTENCES[number % 3])
            return each.embed_documents(SENTENCES)[number % 3]

        with ThreadPoolExecutor(4) as pool:
            for number, answer in enumerate(pool.map(ask, range(40))):
                assert cosine(answer, expected[number % 3]) > 0.999


def test_a_question_does_not_wait_for_the_documents_of_an_import(minilm: SentenceTransformerEmbedder):
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(minilm.embed_documents, [" ".join(SENTENCES * 6)] * 150)
        minilm.embed_query("Who?")
        assert not writing.done()
        assert len(writing.result()) == 150


def test_it_takes_no_threads_from_others_who_use_torch(minilm: SentenceTransformerEmbedder):
    before = torch.get_num_threads()
    minilm.embed_documents(SENTENCES)
    assert torch.get_num_threads() == before


class TestTheBackEndChosen:
    @pytest.mark.parametrize(
        ("processor", "onnx", "chosen"),
        [
            ({"avx512_bf16": True}, True, Backend.BF16),
            ({"avx512_bf16": False, "amx_bf16": True}, False, Backend.BF16),
            ({"avx2": True, "avx512_bf16": False}, True, Backend.ONNX_INT8),
            ({"avx2": True}, False, Backend.TORCH),
        ],
    )
    def test_auto_takes_the_fastest_that_is_available(
        self, monkeypatch: pytest.MonkeyPatch, processor: dict[str, bool], onnx: bool, chosen: Backend
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: processor)
        assert choose_backend("auto", has_onnx=lambda: onnx) == chosen

    def test_an_unknown_one_is_refused_with_those_there_are(self):
        with pytest.raises(ConfigError, match=r"EMBEDDING_BACKEND 'int4'.*auto, torch, bf16, onnx-int8"):
            SentenceTransformerEmbedder(backend="int4")

    def test_one_whose_packages_are_not_installed_is_refused(self):
        with pytest.raises(ConfigError, match="EMBEDDING_BACKEND onnx-int8 needs onnx and onnxruntime"):
            choose_backend("onnx-int8", has_onnx=lambda: False)


@has_onnx
class TestTheStoredEncoder:
    @pytest.fixture
    def model(self) -> SentenceTransformer:
        return SentenceTransformer(embedder._locate(embedder.DEFAULT_MODEL), device="cpu")

    def test_the_second_start_converts_nothing(self, cache: Path, model: SentenceTransformer):
        SentenceTransformerEmbedder(backend="onnx-int8", cache=cache)
        [stored] = cache.iterdir()
        convert(model, embedder.DEFAULT_MODEL, cache, build=pytest.fail)
        assert isinstance(model[0].model, OnnxEncoder)
        assert list(cache.iterdir()) == [stored]

    def test_a_cache_that_can_not_be_written_is_only_a_warning(
        self, cache: Path, tmp_path: Path, model: SentenceTransformer, caplog: pytest.LogCaptureFixture
    ):
        SentenceTransformerEmbedder(backend="onnx-int8", cache=cache)
        [stored] = cache.iterdir()
        (tmp_path / "file").write_text("")
        unwritable = tmp_path / "file" / "encoder"
        convert(model, embedder.DEFAULT_MODEL, unwritable, lambda _, path: shutil.copyfile(stored, path))
        assert len(model.encode("fog")) == 384
        assert "can't be stored" in caplog.text


class TestPrefixes:
    def test_each_side_has_its_own(
        self, prefixed: SentenceTransformerEmbedder, exact: SentenceTransformerEmbedder
    ):
        assert prefixed.embed_query("fog") == pytest.approx(exact.embed_query("query: fog"), abs=1e-5)
        [document] = prefixed.embed_documents(["fog"])
        assert document == pytest.approx(exact.embed_documents(["passage: fog"])[0], abs=1e-5)

    def test_that_of_documents_belongs_to_the_name_since_vectors_without_it_do_not_fit(
        self, prefixed: SentenceTransformerEmbedder, exact: SentenceTransformerEmbedder
    ):
        assert exact.name == "sentence-transformers/all-MiniLM-L6-v2"
        assert prefixed.name == "sentence-transformers/all-MiniLM-L6-v2 passage: "

    def test_a_models_own_are_used_unless_others_are_set(
        self, tmp_path: Path, exact: SentenceTransformerEmbedder
    ):
        model = SentenceTransformer(embedder._locate(embedder.DEFAULT_MODEL), device="cpu")
        model.prompts = {"query": "ask: ", "document": "text: "}
        model.save(str(tmp_path))
        own = SentenceTransformerEmbedder(str(tmp_path), "torch")
        assert own.embed_query("fog") == pytest.approx(exact.embed_query("ask: fog"), abs=1e-5)
        assert own.embed_documents(["fog"])[0] == pytest.approx(exact.embed_query("text: fog"), abs=1e-5)
        none = SentenceTransformerEmbedder(str(tmp_path), "torch", query_prefix="", document_prefix="")
        assert none.embed_query("fog") == pytest.approx(exact.embed_query("fog"), abs=1e-5)


def test_the_settings_describe_it(monkeypatch: pytest.MonkeyPatch):
    for name, value in {
        "EMBEDDING_BACKEND": "torch",
        "EMBEDDING_QUERY_PREFIX": "query: ",
        "EMBEDDING_DOCUMENT_PREFIX": "passage: ",
    }.items():
        monkeypatch.setenv(name, value)
    assert open_embedder(DiarySettings.load()).name == "sentence-transformers/all-MiniLM-L6-v2 passage: "


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
