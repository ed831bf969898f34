"""An embedder for tests in which meaning does not matter."""

import math
import random
from collections.abc import Sequence

from services.diary.embedder import Vector

DIMENSION = 16


def unit_vector(text: str) -> Vector:
    """The same text has the same vector, in every process."""
    chance = random.Random(text)
    numbers = [chance.gauss(0, 1) for _ in range(DIMENSION)]
    length = math.hypot(*numbers)
    return [number / length for number in numbers]


class FakeEmbedder:
    name = "fake"
    dimension = DIMENSION

    def embed_documents(self, texts: Sequence[str]) -> list[Vector]:
        return [unit_vector(text) for text in texts]

    def embed_query(self, text: str) -> Vector:
        return unit_vector(text)
