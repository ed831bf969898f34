"""From entries to the chunks that the index keeps."""

from collections.abc import Sequence
from datetime import date as Date

from services.diary.embedding.embedder import Embedder
from services.diary.entry import Entry
from services.diary.index import bm25
from services.diary.index.chunking import chunks
from services.diary.index.types import Chunk


def build_chunks(entries: Sequence[Entry], embedder: Embedder) -> list[Chunk]:
    """The chunks of all entries in their order, embedded in one batch. A removed entry has none.

    The date is among the words of a chunk and not in what is embedded. Measured on LoCoMo, recall@5 / @10 at
    the end of recall: date in neither 75.7 / 82.8, in both 75.0 / 82.5, among the words alone 76.3 / 84.2.
    """
    pieces = [
        (entry, place, text)
        for entry in entries
        if not entry.removed
        for place, text in enumerate(chunks(entry.text))
    ]
    vectors = embedder.embed_documents([text for _, _, text in pieces]) if pieces else []
    return [
        Chunk(
            owner=entry.owner,
            entry_id=entry.id,
            version=entry.version,
            ordinal=place,
            first_day=entry.first_day,
            last_day=entry.last_day,
            text=text,
            vector=vector,
            sparse_vector=bm25.document_vector(f"{text} {spell_out_date(entry)}"),
            dated=not entry.date_assumed,
        )
        for (entry, place, text), vector in zip(pieces, vectors, strict=True)
    ]


def spell_out_date(entry: Entry) -> str:
    """The entry's date as people ask for it: 5 May 2023, or May 2023, or 2023, or as it was given.

    "" for a date that was only assumed.
    """
    if entry.date_assumed:
        return ""
    first, last = Date.fromisoformat(entry.first_day), Date.fromisoformat(entry.last_day)
    return bm25.spell_out_days(first, last) or entry.date
