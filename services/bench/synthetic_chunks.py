"""Fills a diary with chunks made of its own words, to measure how searches slow down as it grows.

A synthetic entry has ten runs of ten words each, so every word is as common as in the diary, and no two
entries are similar. Their vectors are mixtures of real ones with some noise: to embed all texts would take
half an hour.
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

_ENTRIES_PER_BATCH = 1000
_RUNS_PER_ENTRY, _WORDS_PER_RUN = 10, 10
_REAL_VECTORS = 300
_NOISE = 0.03  # standard deviation of each number; a unit vector's own are about 0.05


def fill(
    ledger: Ledger, owner: str, index: IndexEngine, embedder: Embedder, texts: Sequence[str], chunks: int
) -> None:
    """Add entries to an owner's diary until the index has `chunks` chunks."""
    chance = random.Random(1)
    words = [text.split() for text in texts if len(text.split()) > _WORDS_PER_RUN]
    real = embedder.embed_documents([_mix_texts(words, chance) for _ in range(_REAL_VECTORS)])
    diary = ledger.for_owner(owner)
    import_id = diary.begin_import("synthetic")
    while (missing := chunks - index.count()) > 0:
        drafts = [
            EntryDraft(text=_mix_texts(words, chance), date=_day(chance))
            for _ in range(min(missing, _ENTRIES_PER_BATCH))
        ]
        diary.add_rows(import_id, drafts)
        entries = ledger.due_of_import(owner, import_id, _ENTRIES_PER_BATCH)
        index.upsert([_chunk(entry, _mix_vectors(chance.sample(real, 2), chance)) for entry in entries])
        ledger.mark_indexed(entries)


def _mix_texts(words: Sequence[Sequence[str]], chance: random.Random) -> str:
    runs = []
    for text in chance.choices(words, k=_RUNS_PER_ENTRY):
        start = chance.randrange(len(text) - _WORDS_PER_RUN + 1)
        runs.append(" ".join(text[start : start + _WORDS_PER_RUN]))
    return ". ".join(runs)


def _mix_vectors(vectors: Sequence[Vector], chance: random.Random) -> Vector:
    mixed = [sum(numbers) + chance.gauss(0, _NOISE) for numbers in zip(*vectors, strict=True)]
    norm = math.hypot(*mixed)
    return [number / norm for number in mixed]


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
