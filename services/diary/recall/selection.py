"""Selects entries for ranked chunks: current ones, each text once, half of them for mentioned days."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from services.diary import conflicts
from services.diary.entry import Entry
from services.diary.ledger.owner_ledger import OwnerLedger
from services.diary.recall.cancellation import Cancellation
from services.diary.recall.near_duplicates import Deduplicator
from services.diary.recall.ranking import ScoredChunk

ENTRIES_PER_QUERY = 16  # fetched from the ledger at once; mostly the first few are enough
MOOD_WEIGHT = 0.25  # added to the score of an entry of the requested mood

VersionKey = tuple[str, int]  # an entry's id and version


@dataclass(frozen=True)
class MatchedEntry:
    """An entry with its matching chunks, best first, and the ordinals of its superseded chunks."""

    entry: Entry
    chunks: list[ScoredChunk]
    mood_bonus: float
    superseded: frozenset[int]

    @property
    def score(self) -> float:
        """The score of the best chunk, plus the bonus for the mood."""
        return self.chunks[0].score + self.mood_bonus

    @property
    def is_dated(self) -> bool:
        """Whether it belongs to days that the question mentions."""
        return self.chunks[0].is_dated


class SelectedEntry(NamedTuple):
    """An entry that is recalled, and those that say the same."""

    match: MatchedEntry
    duplicates: list[MatchedEntry]


@dataclass(frozen=True)
class EntrySelector:
    """Selects entries of one owner. `superseded` has the passages that do not hold, by entry and version."""

    ledger: OwnerLedger
    superseded: Mapping[VersionKey, Sequence[str]]
    mood: str | None
    cancellation: Cancellation

    def select(self, ranked: Sequence[ScoredChunk], top_k: int) -> list[SelectedEntry]:
        """The `top_k` best entries that differ, best first, each with those that say the same.

        Half of them are entries of days that the question mentions, as far as there are any. Raises
        DiaryUnavailable, and SearchCancelled once the search is cancelled.
        """
        chunks = group_by_version(ranked)
        dated = {key: matching for key, matching in chunks.items() if matching[0].is_dated}
        best = _first_distinct(self.matches(chunks), top_k + 1)
        best_dated = _first_distinct(self.matches(dated), top_k // 2)
        matches = {match.entry.id: match for match in [*best, *best_dated]}
        groups: Deduplicator[MatchedEntry] = Deduplicator()
        for match in sorted(matches.values(), key=lambda match: -match.score):
            groups.add(match, match.entry.text)
        return _reserve_half([_pick_newest(group) for group in groups.groups], top_k)

    def matches(self, chunks: Mapping[VersionKey, list[ScoredChunk]]) -> Iterator[MatchedEntry]:
        """The entries whose version in the ledger is the indexed one, best first.

        With a mood all entries are fetched first, because the bonus changes their order.
        """
        matches = self._fetch(chunks)
        return matches if self.mood is None else iter(sorted(matches, key=lambda match: -match.score))

    def _fetch(self, chunks: Mapping[VersionKey, list[ScoredChunk]]) -> Iterator[MatchedEntry]:
        rest = iter(chunks.items())
        while batch := dict(islice(rest, ENTRIES_PER_QUERY)):
            self.cancellation.check()
            entries = self.ledger.get_many([entry_id for entry_id, _ in batch])
            for (entry_id, version), matching in batch.items():
                entry = entries.get(entry_id)
                if entry and entry.version == version and (match := self._match(entry, matching)):
                    yield match

    def _match(self, entry: Entry, chunks: Sequence[ScoredChunk]) -> MatchedEntry | None:
        """The entry with those chunks that are not superseded; None when there are none."""
        passages = self.superseded.get((entry.id, entry.version), ())
        hidden = conflicts.chunk_ordinals(passages, entry.text) if passages else frozenset()
        visible = [chunk for chunk in chunks if chunk.hit.ordinal not in hidden]
        has_mood = self.mood is not None and (entry.mood or "").casefold() == self.mood.casefold()
        return MatchedEntry(entry, visible, MOOD_WEIGHT * has_mood, hidden) if visible else None


def group_by_version(ranked: Sequence[ScoredChunk]) -> dict[VersionKey, list[ScoredChunk]]:
    """The chunks of each version of an entry; the entry with the best chunk first."""
    groups: dict[VersionKey, list[ScoredChunk]] = {}
    for chunk in ranked:
        groups.setdefault((chunk.hit.entry_id, chunk.hit.version), []).append(chunk)
    return groups


def _first_distinct(matches: Iterator[MatchedEntry], number: int) -> list[MatchedEntry]:
    """The first matches, until there are `number` different texts."""
    groups: Deduplicator[MatchedEntry] = Deduplicator()
    for match in matches:
        groups.add(match, match.entry.text)
        if len(groups.groups) >= number:
            break
    return [match for group in groups.groups for match in group]


def _pick_newest(group: Sequence[MatchedEntry]) -> SelectedEntry:
    """Of entries that say the same, the newest; one of a mentioned day goes before all others."""
    newest = max(
        group,
        key=lambda match: (match.chunks[0].parts["dates"], match.entry.last_day, match.entry.written_at),
    )
    return SelectedEntry(newest, [match for match in group if match is not newest])


def _reserve_half(selected: Sequence[SelectedEntry], top_k: int) -> list[SelectedEntry]:
    """The `top_k` best, best first, of which half are of mentioned days as far as there are any."""
    ordered = sorted(selected, key=lambda entry: -entry.match.score)
    dated = [entry for entry in ordered if entry.match.is_dated][: top_k // 2]
    others = [entry for entry in ordered if not any(entry is other for other in dated)]
    return sorted([*dated, *others[: top_k - len(dated)]], key=lambda entry: -entry.match.score)
