"""An embedder for tests in which meaning does not matter, and words that are what they look like."""

import math
import random
import zlib
from collections.abc import Sequence

from services.diary.embedding.embedder import Vector
from services.diary.index.types import IndexQuery, SparseVector

DIMENSION = 16


def unit_vector(text: str) -> Vector:
    """The same text has the same vector, in every process."""
    chance = random.Random(text)
    numbers = [chance.gauss(0, 1) for _ in range(DIMENSION)]
    length = math.hypot(*numbers)
    return [number / length for number in numbers]


def plain_words(text: str) -> SparseVector:
    """Every different word of the text, split at blanks, with the weight 1."""
    indices = sorted({zlib.crc32(word.encode()) for word in text.split()})
    return SparseVector(indices, [1.0] * len(indices))


def index_query(text: str) -> IndexQuery:
    """A question for an index that was filled with `unit_vector` and `plain_words`."""
    return IndexQuery(unit_vector(text), plain_words(text))


class FakeEmbedder:
    name = "fake"
    dimension = DIMENSION

    def embed_documents(self, texts: Sequence[str]) -> list[Vector]:
        return [unit_vector(text) for text in texts]

    def embed_query(self, text: str) -> Vector:
        return unit_vector(text)
