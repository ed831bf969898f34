"""Builds the chunks of entries for the index."""

from collections.abc import Sequence
from datetime import date as Date

from services.diary.embedding.embedder import Embedder
from services.diary.entry import Entry
from services.diary.index import bm25
from services.diary.index.chunking import chunks
from services.diary.index.types import Chunk


def build_chunks(entries: Sequence[Entry], embedder: Embedder) -> list[Chunk]:
    """The chunks of all entries in order, embedded in one batch. A removed entry has none.

    The date of an entry is among a chunk's BM25 terms and not in the text that is embedded. Measured on
    LoCoMo (recall@5 / @10 at the end of recall): date in neither 75.7 / 82.8, in both 75.0 / 82.5, among the
    terms alone 76.3 / 84.2.
    """
    pieces = [
        (entry, ordinal, text)
        for entry in entries
        if not entry.removed
        for ordinal, text in enumerate(chunks(entry.text))
    ]
    vectors = embedder.embed_documents([text for _, _, text in pieces]) if pieces else []
    return [
        Chunk(
            owner=entry.owner,
            entry_id=entry.id,
            version=entry.version,
            ordinal=ordinal,
            first_day=entry.first_day,
            last_day=entry.last_day,
            text=text,
            vector=vector,
            sparse_vector=bm25.document_vector(f"{text} {spell_out_date(entry)}"),
            dated=not entry.date_assumed,
        )
        for (entry, ordinal, text), vector in zip(pieces, vectors, strict=True)
    ]


def spell_out_date(entry: Entry) -> str:
    """The entry's date as people ask for it: "5 May 2023", "May 2023", "2023", else as the entry has it.

    "" for a date that was only assumed.
    """
    if entry.date_assumed:
        return ""
    first, last = Date.fromisoformat(entry.first_day), Date.fromisoformat(entry.last_day)
    return bm25.spell_out_days(first, last) or entry.date
