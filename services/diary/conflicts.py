"""Conflicts: pairs of entries that may contradict each other, with their verdicts and resolutions.

Pairs are found by similarity and judged elsewhere. A verdict is on two versions; when either entry is edited,
the pair is judged again. That an entry was compared with its nearest ones is stored as a verdict on the entry
and itself.
"""

import json
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Row,
    Select,
    String,
    and_,
    bindparam,
    func,
    select,
    true,
    update,
)

from services.diary.embedding.embedder import Embedder
from services.diary.entry import Entry
from services.diary.index.chunking import chunks, spans
from services.diary.index.engine import SearchIndex
from services.diary.index.types import DENSE, Hit, IndexQuery, SparseVector
from services.diary.ledger.database import insert_new
from services.diary.ledger.ledger import Ledger
from services.diary.ledger.tables import conflicts, entries, utc_timestamp
from services.errors import NotFound

MIN_SIMILARITY = 0.5  # cosine from which two passages may be about the same subject
NEAREST = 6  # chunks that are compared with each passage
PASSAGES = 3  # of an entry; of a longer one the beginning is compared
PASSAGE_CHARACTERS = 1200
MAX_ATTEMPTS = 3  # at comparing an entry; then it counts as examined, without the verdict that failed
_EXAMINED, _DEFERRED = "examined", "put off"  # as they are stored
_ID = re.compile(r"([A-Za-z0-9_-]{1,64})\.([0-9]{1,9})~([A-Za-z0-9_-]{1,64})\.([0-9]{1,9})", re.ASCII)


class Verdict(StrEnum):
    """How two passages relate to each other."""

    CONTRADICTS = "contradicts"
    AGREES = "agrees"
    UNRELATED = "unrelated"


class Resolution(StrEnum):
    """Which of the two entries is right, as the diary's owner has decided."""

    A = "a"
    B = "b"
    BOTH = "both"
    NEITHER = "neither"


_LOSING_SIDES = {Resolution.A: ("b",), Resolution.B: ("a",), Resolution.NEITHER: ("a", "b")}


@dataclass(frozen=True)
class Pair:
    """Two passages of entries of different days; `a` is the one of the earlier day."""

    a: Entry
    b: Entry
    a_passage: str
    b_passage: str

    @property
    def id(self) -> str:
        """Names the pair in a URL: ids hold neither a dot nor a tilde."""
        return _pair_id(self.a, self.b)


@dataclass(frozen=True)
class Conflict:
    """A pair of entries that contradict each other, and its resolution if there is one."""

    pair: Pair
    resolution: Resolution | None
    judged_at: str


def superseded_passages(ledger: Ledger, owner: str) -> dict[tuple[str, int], list[str]]:
    """The passages that the owner has resolved to be wrong, by the entry's id and version.

    A resolution is valid until either entry is edited or removed. Raises DiaryUnavailable.
    """
    result: dict[tuple[str, int], list[str]] = {}
    with ledger.reading() as connection:
        for row in connection.execute(_SUPERSEDING, {"owner": owner}):
            passages = json.loads(row.why)
            for side in _LOSING_SIDES[Resolution(row.settled)]:
                key = getattr(row, f"{side}_id"), getattr(row, f"{side}_version")
                result.setdefault(key, []).append(passages[side])
    return result


def chunk_ordinals(passages: Sequence[str], text: str) -> frozenset[int]:
    """The ordinals of the text's chunks that overlap with one of these passages."""
    offsets = [(text.find(passage), len(passage)) for passage in passages]
    ranges = [(begin, begin + length) for begin, length in offsets if begin >= 0]
    return frozenset(
        ordinal
        for ordinal, (first, last) in enumerate(spans(text))
        if any(first < end and begin < last for begin, end in ranges)
    )


class OwnerConflicts:
    """The conflicts of one owner's diary. Every method raises DiaryUnavailable."""

    def __init__(self, ledger: Ledger, embedder: Embedder, index: SearchIndex, owner: str) -> None:
        self._ledger = ledger
        self._embedder = embedder
        self._index = index.for_owner(owner)
        self._entries = ledger.for_owner(owner)
        self.owner = owner

    # --- finding ---------------------------------------------------------------------------------------

    def unexamined(self, limit: int, skipped: Collection[str] = ()) -> list[Entry]:
        """Entries that were not yet compared with their nearest ones, the newest first."""
        condition = and_(self._to_examine(), entries.c.id.not_in(skipped))
        query = select(entries.c.id).where(condition).order_by(entries.c.moment.desc())
        with self._ledger.reading() as connection:
            ids = connection.execute(query.limit(limit)).scalars().all()
        existing = self._entries.get_many(ids)
        return [existing[entry_id] for entry_id in ids if entry_id in existing]

    def count_unexamined(self) -> int:
        """The number of entries that `unexamined` would return without a limit."""
        query = select(func.count()).select_from(entries).where(self._to_examine())
        with self._ledger.reading() as connection:
            return connection.execute(query).scalar_one()

    def candidates(self, entry: Entry) -> list[Pair]:
        """Pairs of the entry with similar passages of other days, most similar first, not judged yet."""
        passages = chunks(entry.text)[:PASSAGES]
        similar = sorted(self._similar(entry, passages), key=lambda match: -match[1].scores[DENSE])
        others = self._entries.get_many(list({hit.entry_id for _, hit in similar}))
        pairs: dict[str, Pair] = {}
        for passage, hit in similar:
            other = others.get(hit.entry_id)
            if other and other.version == hit.version and other.first_day != entry.first_day:
                pair = _pair(entry, passage, other, _passage(other, hit))
                pairs.setdefault(pair.id, pair)
        return [pair for pair in pairs.values() if not self._is_judged(pair)]

    def _similar(self, entry: Entry, passages: list[str]) -> Iterator[tuple[str, Hit]]:
        vectors = self._embedder.embed_documents(passages)
        for passage, vector in zip(passages, vectors, strict=True):
            for hit in self._index.search(IndexQuery(vector, SparseVector([], [])), NEAREST):
                if hit.entry_id != entry.id and hit.scores[DENSE] >= MIN_SIMILARITY:
                    yield passage, hit

    # --- storing ---------------------------------------------------------------------------------------

    def record_verdict(self, pair: Pair, verdict: Verdict) -> None:
        """Store the verdict on a pair. The first verdict stays."""
        passages = json.dumps({"a": pair.a_passage, "b": pair.b_passage}, ensure_ascii=False)
        self._insert(pair.a, pair.b, verdict, passages)

    def mark_examined(self, entry: Entry) -> None:
        """Store that an entry was compared with its nearest ones."""
        self._upsert(entry, _EXAMINED, "")

    def defer(self, entry: Entry) -> None:
        """Count a failed attempt at comparing an entry; after three it counts as examined."""
        with self._ledger.reading() as connection:
            query = select(conflicts.c.why).where(self._is_pair(_pair_id(entry, entry)))
            attempts = int(connection.execute(query).scalar() or 0) + 1
        self._upsert(entry, _EXAMINED if attempts >= MAX_ATTEMPTS else _DEFERRED, str(attempts))

    def resolve(self, conflict_id: str, resolution: Resolution) -> Conflict:
        """Store the owner's decision. Raises NotFound, also when either entry was edited since."""
        is_conflict = and_(self._is_pair(conflict_id), conflicts.c.verdict == Verdict.CONTRADICTS)
        with self._ledger.transaction() as connection:
            connection.execute(update(conflicts).where(is_conflict).values(settled=resolution))
            rows = connection.execute(_standing(self.owner).where(is_conflict)).all()
            if not rows:
                raise NotFound(f"there is no conflict {conflict_id[:200]!r}", "id")
        return self._conflicts(rows)[0]

    def newest(self, limit: int, resolved: bool = False) -> list[Conflict]:
        """Conflicts between current versions, the newest first: those with a resolution, or those without."""
        is_listed = conflicts.c.settled.is_not(None) if resolved else conflicts.c.settled.is_(None)
        query = _standing(self.owner).where(conflicts.c.verdict == Verdict.CONTRADICTS, is_listed)
        order = (conflicts.c.judged_at.desc(), conflicts.c.a_id, conflicts.c.b_id)
        with self._ledger.reading() as connection:
            rows = connection.execute(query.order_by(*order).limit(limit)).all()
        return self._conflicts(rows)

    def _insert(self, a: Entry, b: Entry, verdict: str, why: str) -> None:
        names = {"a_id": a.id, "a_version": a.version, "b_id": b.id, "b_version": b.version}
        row = {"owner": self.owner, **names, "verdict": verdict, "why": why, "judged_at": utc_timestamp()}
        with self._ledger.transaction() as connection:
            insert_new(connection, conflicts, row)

    def _upsert(self, entry: Entry, verdict: str, why: str) -> None:
        self._insert(entry, entry, verdict, why)
        is_verdict = self._is_pair(_pair_id(entry, entry))
        with self._ledger.transaction() as connection:
            connection.execute(update(conflicts).where(is_verdict).values(verdict=verdict, why=why))

    def _is_judged(self, pair: Pair) -> bool:
        with self._ledger.reading() as connection:
            query = select(conflicts.c.verdict).where(self._is_pair(pair.id))
            return connection.execute(query).first() is not None

    def _is_pair(self, conflict_id: str) -> ColumnElement[bool]:
        """The SQL condition that selects a pair. Raises NotFound for an id that has another form."""
        match = _ID.fullmatch(conflict_id)
        if match is None:
            raise NotFound(f"there is no conflict {conflict_id[:200]!r}", "id")
        a, b = conflicts.c.a_id == match[1], conflicts.c.b_id == match[3]
        versions = and_(conflicts.c.a_version == int(match[2]), conflicts.c.b_version == int(match[4]))
        return and_(conflicts.c.owner == self.owner, a, b, versions)

    def _to_examine(self) -> ColumnElement[bool]:
        itself = and_(
            conflicts.c.owner == entries.c.owner,
            conflicts.c.a_id == entries.c.id,
            conflicts.c.a_version == entries.c.version,
            conflicts.c.b_id == entries.c.id,
            conflicts.c.verdict == _EXAMINED,
        )
        is_examined = select(true()).where(itself).exists()
        return and_(entries.c.owner == self.owner, ~entries.c.removed, ~is_examined)

    def _conflicts(self, rows: Sequence[Row[Any]]) -> list[Conflict]:
        ids = {entry_id for row in rows for entry_id in (row.a_id, row.b_id)}
        existing = self._entries.get_many(list(ids))
        result = []
        for row in rows:
            if row.a_id in existing and row.b_id in existing:
                passages = json.loads(row.why)
                pair = Pair(existing[row.a_id], existing[row.b_id], passages["a"], passages["b"])
                resolution = Resolution(row.settled) if row.settled else None
                result.append(Conflict(pair, resolution, row.judged_at))
        return result


def _passage(entry: Entry, hit: Hit) -> str:
    """The text of a chunk, which the index does not store."""
    return (chunks(entry.text)[hit.ordinal :] or [entry.text])[0]


def _pair_id(a: Entry, b: Entry) -> str:
    return f"{a.id}.{a.version}~{b.id}.{b.version}"


def _pair(entry: Entry, passage: str, other: Entry, other_passage: str) -> Pair:
    passage, other_passage = passage[:PASSAGE_CHARACTERS], other_passage[:PASSAGE_CHARACTERS]
    if (entry.first_day, entry.id) < (other.first_day, other.id):
        return Pair(entry, other, passage, other_passage)
    return Pair(other, entry, other_passage, passage)


def _standing(owner: str | BindParameter[str]) -> Select[Any]:
    """Verdicts on pairs of which neither entry was edited or removed since."""
    query = select(conflicts).where(conflicts.c.owner == owner)
    for name in ("a", "b"):
        current = entries.alias()
        version, entry_id = conflicts.c[f"{name}_version"], conflicts.c[f"{name}_id"]
        is_version = and_(
            current.c.owner == conflicts.c.owner, current.c.id == entry_id, current.c.version == version
        )
        query = query.join(current, and_(is_version, ~current.c.removed))
    return query


# Every recall runs this query, and building it takes longer than running it: 0.8 ms of CPU time.
_SUPERSEDING = _standing(bindparam("owner", type_=String)).where(
    conflicts.c.settled.in_(_LOSING_SIDES), conflicts.c.verdict == Verdict.CONTRADICTS
)
