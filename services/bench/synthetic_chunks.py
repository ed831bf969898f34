"""A larger diary made of a diary's own words, to see how searching grows with it.

Entries of ten runs of ten words each: every word is as common as it is in the diary, and no two entries are
alike. Their vectors are mixtures of real ones with some noise: to embed them all would take half an hour.
"""

import math
import random
from collections.abc import Sequence

from services.diary.embedding.embedder import Embedder, Vector
from services.diary.entry import Entry, EntryDraft
from services.diary.index import bm25
from services.diary.index.engine import IndexEngine
from services.diary.index.types import Chunk
from services.diary.ledger.ledger import Ledger

_AT_ONCE = 1000
_RUNS, _RUN = 10, 10
_REAL_VECTORS = 300
_NOISE = 0.03  # of each number; a unit vector's own are about 0.05


def fill(
    ledger: Ledger, owner: str, index: IndexEngine, embedder: Embedder, texts: Sequence[str], chunks: int
) -> None:
    """Add entries to an owner's diary until the index has so many chunks."""
    chance = random.Random(1)
    spoken = [text.split() for text in texts if len(text.split()) > _RUN]
    real = embedder.embed_documents([_mixture(spoken, chance) for _ in range(_REAL_VECTORS)])
    mine = ledger.for_owner(owner)
    filling = mine.begin_import("filling")
    while (missing := chunks - index.count()) > 0:
        drafts = [
            EntryDraft(text=_mixture(spoken, chance), date=_day(chance))
            for _ in range(min(missing, _AT_ONCE))
        ]
        mine.add_rows(filling, drafts)
        entries = ledger.due_of_import(owner, filling, _AT_ONCE)
        index.upsert([_chunk(entry, _near(chance.sample(real, 2), chance)) for entry in entries])
        ledger.mark_indexed(entries)


def _mixture(spoken: Sequence[Sequence[str]], chance: random.Random) -> str:
    runs = []
    for entry in chance.choices(spoken, k=_RUNS):
        start = chance.randrange(len(entry) - _RUN + 1)
        runs.append(" ".join(entry[start : start + _RUN]))
    return ". ".join(runs)


def _near(vectors: Sequence[Vector], chance: random.Random) -> Vector:
    mixed = [sum(numbers) + chance.gauss(0, _NOISE) for numbers in zip(*vectors, strict=True)]
    length = math.hypot(*mixed)
    return [number / length for number in mixed]


def _chunk(entry: Entry, vector: Vector) -> Chunk:
    return Chunk(
        owner=entry.owner,
        entry_id=entry.id,
        version=entry.version,
        ordinal=0,
        first_day=entry.first_day,
        last_day=entry.last_day,
        text=entry.text,
        vector=vector,
        sparse_vector=bm25.document_vector(entry.text),
    )


def _day(chance: random.Random) -> str:
    return f"{chance.randrange(1660, 1670)}-{chance.randrange(1, 13):02}-{chance.randrange(1, 29):02}"
