"""Ledger and index held against each other."""

from collections.abc import Iterator
from dataclasses import dataclass

from services.diary.entry import Entry, IndexState
from services.diary.index.chunking import chunks
from services.diary.index.types import EntryKey, IndexEngine
from services.diary.ledger.ledger import Ledger
from services.errors import DiaryUnavailable

Versions = dict[int, int]  # version → chunks


@dataclass(frozen=True)
class Difference:
    """Something that the index has otherwise than the ledger.

    `kind` is `missing`, `torn` (not all of its chunks), `stale` (another version), `surplus` (an entry that
    was removed or never was), or the ledger's own `queued`, `failed` and `damaged`; `what` says it in words.
    Without owner and id it is the ledger's file, which all owners have in common.
    """

    owner: str
    entry_id: str
    kind: str
    what: str


def verify(ledger: Ledger, index: IndexEngine) -> list[Difference]:
    """Every difference, by owner and entry; none that was only passing by. Raises DiaryUnavailable.

    The text of all entries is read, a few in memory at a time. Index and ledger are not read at the same
    moment: what differs is therefore looked at a second time, and named if it still differs in the same way.
    """
    damaged = [Difference(owner, entry_id, "damaged", what) for owner, entry_id, what in ledger.damages()]
    try:
        found = set(_compared(ledger, index))
        differ = [one for one in _compared(ledger, index) if one in found] if found else []
    except (DiaryUnavailable, ValueError):
        if not damaged:
            raise
        differ = []  # what is damaged can't be compared with anything
    return sorted([*damaged, *differ], key=lambda one: (one.owner, one.entry_id, one.kind, one.what))


def _compared(ledger: Ledger, index: IndexEngine) -> list[Difference]:
    stored: dict[EntryKey, Versions] = {}
    for owner, entry_id, version, count in index.versions():
        stored.setdefault(EntryKey(owner, entry_id), {})[version] = count
    found: list[Difference] = []
    for entry in ledger.iter_current():
        found += _differences(entry, stored.pop(EntryKey(entry.owner, entry.id), {}))
    found += [Difference(*key, "surplus", "the ledger knows no such entry") for key in stored]
    return sorted(found, key=lambda one: (one.owner, one.entry_id, one.kind, one.what))


def _differences(entry: Entry, stored: Versions) -> Iterator[Difference]:
    def named(kind: str, what: str) -> Difference:
        return Difference(entry.owner, entry.id, kind, what)

    if entry.state != IndexState.INDEXED:
        yield named(entry.state.value, entry.reason or f"version {entry.version} is not in the index yet")
        return
    expected = 0 if entry.removed else len(chunks(entry.text))
    here = stored.get(entry.version, 0)
    if entry.removed and stored:
        yield named("surplus", f"it was removed, and {sum(stored.values())} chunks of it are there")
        return
    if expected and not here:
        yield named("missing", f"version {entry.version} has none of its {expected} chunks")
    elif here != expected:
        yield named("torn", f"version {entry.version} has {here} of its {expected} chunks")
    for version in sorted(stored.keys() - {entry.version}):
        yield named("stale", f"version {version} is there, the entry is at {entry.version}")
