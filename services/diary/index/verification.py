"""Compares the index with the ledger."""

from collections.abc import Iterator
from dataclasses import dataclass

from services.diary.entry import Entry, IndexState
from services.diary.index.chunking import chunks
from services.diary.index.engine import SearchIndex
from services.diary.index.types import EntryKey
from services.diary.ledger.ledger import Ledger
from services.errors import DiaryUnavailable

ChunkCounts = dict[int, int]  # version → number of chunks


@dataclass(frozen=True)
class Difference:
    """A difference between index and ledger.

    `kind` is `missing`, `torn` (some chunks are missing), `stale` (another version), `surplus` (an entry that
    was removed or never existed), or the ledger's own `queued`, `failed` and `damaged`; `what` says it in
    words. With an empty owner and id it concerns the ledger's file, which all owners share.
    """

    owner: str
    entry_id: str
    kind: str
    what: str


def verify(ledger: Ledger, index: SearchIndex) -> list[Difference]:
    """Every lasting difference, by owner and entry. Raises DiaryUnavailable.

    Reads the text of all entries, a few in memory at a time. Index and ledger cannot be read at the same
    moment, so what differs is compared a second time, and reported if it still differs in the same way.
    """
    damaged = [Difference(owner, entry_id, "damaged", what) for owner, entry_id, what in ledger.damages()]
    try:
        first = set(_compare(ledger, index))
        lasting = (
            [difference for difference in _compare(ledger, index) if difference in first] if first else []
        )
    except (DiaryUnavailable, ValueError):
        if not damaged:
            raise
        lasting = []  # a damaged ledger cannot be compared
    return sorted([*damaged, *lasting], key=_sort_key)


def _sort_key(difference: Difference) -> tuple[str, str, str, str]:
    return difference.owner, difference.entry_id, difference.kind, difference.what


def _compare(ledger: Ledger, index: SearchIndex) -> list[Difference]:
    indexed: dict[EntryKey, ChunkCounts] = {}
    for owner, entry_id, version, count in index.versions():
        indexed.setdefault(EntryKey(owner, entry_id), {})[version] = count
    differences: list[Difference] = []
    for entry in ledger.iter_current():
        differences += _compare_entry(entry, indexed.pop(EntryKey(entry.owner, entry.id), {}))
    differences += [Difference(*key, "surplus", "the ledger knows no such entry") for key in indexed]
    return sorted(differences, key=_sort_key)


def _compare_entry(entry: Entry, indexed: ChunkCounts) -> Iterator[Difference]:
    def difference(kind: str, what: str) -> Difference:
        return Difference(entry.owner, entry.id, kind, what)

    if entry.state != IndexState.INDEXED:
        yield difference(
            entry.state.value, entry.reason or f"version {entry.version} is not in the index yet"
        )
        return
    expected = 0 if entry.removed else len(chunks(entry.text))
    count = indexed.get(entry.version, 0)
    if entry.removed and indexed:
        yield difference(
            "surplus", f"it was removed, and {sum(indexed.values())} of its chunks are in the index"
        )
        return
    if expected and not count:
        yield difference("missing", f"version {entry.version} has none of its {expected} chunks")
    elif count != expected:
        yield difference("torn", f"version {entry.version} has {count} of its {expected} chunks")
    for version in sorted(indexed.keys() - {entry.version}):
        yield difference("stale", f"version {version} is in the index, the entry is at {entry.version}")
