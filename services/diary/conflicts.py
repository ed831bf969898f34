"""Pairs of entries that may disagree: found by similarity, judged elsewhere, and kept with their verdicts.

A pair is judged as the versions that stand there now; when either is edited, it is looked at anew. That an
entry was compared with those most like it is kept as a verdict on the entry and itself.
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

ALIKE = 0.5  # cosine from which on two passages may be about the same subject
NEAREST = 6  # chunks that are looked at for each passage
PASSAGES = 3  # of an entry; a longer one has its beginning compared
PASSAGE_CHARACTERS = 1200
MOST_ATTEMPTS = 3  # at comparing an entry; then it counts as examined, without the verdict that failed
_EXAMINED, _PUT_OFF = "examined", "put off"
_ID = re.compile(r"([A-Za-z0-9_-]{1,64})\.([0-9]{1,9})~([A-Za-z0-9_-]{1,64})\.([0-9]{1,9})", re.ASCII)


class Verdict(StrEnum):
    """What two passages are to each other."""

    CONTRADICTS = "contradicts"
    AGREES = "agrees"
    UNRELATED = "unrelated"


class Resolution(StrEnum):
    """Which of the two the researcher holds true."""

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
    """A pair that was found to disagree, and how the researcher settled it."""

    pair: Pair
    settled: Resolution | None
    judged_at: str


def superseded_passages(ledger: Ledger, owner: str) -> dict[tuple[str, int], list[str]]:
    """The passages that do not hold, as the researcher has settled it, by an entry's id and version.

    A verdict is on two versions, and holds until either entry is edited or removed. Raises DiaryUnavailable.
    """
    found: dict[tuple[str, int], list[str]] = {}
    with ledger.reading() as connection:
        for row in connection.execute(_SUPERSEDING, {"owner": owner}):
            passages = json.loads(row.why)
            for side in _LOSING_SIDES[Resolution(row.settled)]:
                key = getattr(row, f"{side}_id"), getattr(row, f"{side}_version")
                found.setdefault(key, []).append(passages[side])
    return found


def chunk_ordinals(passages: Sequence[str], text: str) -> frozenset[int]:
    """The places of the chunks in which these passages of a text stand."""
    found = [(text.find(passage), len(passage)) for passage in passages]
    ranges = [(begin, begin + length) for begin, length in found if begin >= 0]
    return frozenset(
        place
        for place, (first, last) in enumerate(spans(text))
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
        """Entries that were not yet compared with those most like them, the newest first."""
        these = and_(self._to_examine(), entries.c.id.not_in(skipped))
        query = select(entries.c.id).where(these).order_by(entries.c.moment.desc())
        with self._ledger.reading() as connection:
            ids = connection.execute(query.limit(limit)).scalars().all()
        found = self._entries.get_many(ids)
        return [found[one] for one in ids if one in found]

    def count_unexamined(self) -> int:
        """How many those are."""
        query = select(func.count()).select_from(entries).where(self._to_examine())
        with self._ledger.reading() as connection:
            return connection.execute(query).scalar_one()

    def candidates(self, entry: Entry) -> list[Pair]:
        """The entry beside passages like its own from other days, that were not judged yet; likest first."""
        passages = chunks(entry.text)[:PASSAGES]
        alike = sorted(self._alike(entry, passages), key=lambda found: -found[1].scores[DENSE])
        others = self._entries.get_many(list({hit.entry_id for _, hit in alike}))
        pairs: dict[str, Pair] = {}
        for passage, hit in alike:
            other = others.get(hit.entry_id)
            if other and other.version == hit.version and other.first_day != entry.first_day:
                pair = _pair(entry, passage, other, _passage(other, hit))
                pairs.setdefault(pair.id, pair)
        return [pair for pair in pairs.values() if not self._is_judged(pair)]

    def _alike(self, entry: Entry, passages: list[str]) -> Iterator[tuple[str, Hit]]:
        vectors = self._embedder.embed_documents(passages)
        for passage, vector in zip(passages, vectors, strict=True):
            for hit in self._index.search(IndexQuery(vector, SparseVector([], [])), NEAREST):
                if hit.entry_id != entry.id and hit.scores[DENSE] >= ALIKE:
                    yield passage, hit

    # --- keeping ---------------------------------------------------------------------------------------

    def record_verdict(self, pair: Pair, verdict: Verdict) -> None:
        """Keep what was found about a pair. The first verdict stands."""
        passages = json.dumps({"a": pair.a_passage, "b": pair.b_passage}, ensure_ascii=False)
        self._keep(pair.a, pair.b, verdict, passages)

    def mark_examined(self, entry: Entry) -> None:
        """Keep that an entry was compared with those most like it."""
        self._note(entry, _EXAMINED, "")

    def defer(self, entry: Entry) -> None:
        """Count an attempt at comparing an entry that failed by its own fault; after three it is left."""
        with self._ledger.reading() as connection:
            query = select(conflicts.c.why).where(self._named(_pair_id(entry, entry)))
            attempts = int(connection.execute(query).scalar() or 0) + 1
        self._note(entry, _EXAMINED if attempts >= MOST_ATTEMPTS else _PUT_OFF, str(attempts))

    def resolve(self, conflict_id: str, settled: Resolution) -> Conflict:
        """Note what the researcher decided. Raises NotFound, also when either entry was edited since."""
        these = and_(self._named(conflict_id), conflicts.c.verdict == Verdict.CONTRADICTS)
        with self._ledger.transaction() as connection:
            connection.execute(update(conflicts).where(these).values(settled=settled))
            rows = connection.execute(_standing(self.owner).where(these)).all()
            if not rows:
                raise NotFound(f"there is no conflict {conflict_id[:200]!r}", "id")
        return self._conflicts(rows)[0]

    def newest(self, limit: int, settled: bool = False) -> list[Conflict]:
        """Conflicts of versions that still stand there, the newest first; those that are settled, or not."""
        is_settled = conflicts.c.settled.is_not(None) if settled else conflicts.c.settled.is_(None)
        query = _standing(self.owner).where(conflicts.c.verdict == Verdict.CONTRADICTS, is_settled)
        order = (conflicts.c.judged_at.desc(), conflicts.c.a_id, conflicts.c.b_id)
        with self._ledger.reading() as connection:
            rows = connection.execute(query.order_by(*order).limit(limit)).all()
        return self._conflicts(rows)

    def _keep(self, a: Entry, b: Entry, verdict: str, why: str) -> None:
        names = {"a_id": a.id, "a_version": a.version, "b_id": b.id, "b_version": b.version}
        row = {"owner": self.owner, **names, "verdict": verdict, "why": why, "judged_at": utc_timestamp()}
        with self._ledger.transaction() as connection:
            insert_new(connection, conflicts, row)

    def _note(self, entry: Entry, verdict: str, why: str) -> None:
        self._keep(entry, entry, verdict, why)
        this = self._named(_pair_id(entry, entry))
        with self._ledger.transaction() as connection:
            connection.execute(update(conflicts).where(this).values(verdict=verdict, why=why))

    def _is_judged(self, pair: Pair) -> bool:
        with self._ledger.reading() as connection:
            query = select(conflicts.c.verdict).where(self._named(pair.id))
            return connection.execute(query).first() is not None

    def _named(self, conflict_id: str) -> ColumnElement[bool]:
        """Raises NotFound for what names no pair."""
        found = _ID.fullmatch(conflict_id)
        if found is None:
            raise NotFound(f"there is no conflict {conflict_id[:200]!r}", "id")
        a, b = conflicts.c.a_id == found[1], conflicts.c.b_id == found[3]
        versions = and_(conflicts.c.a_version == int(found[2]), conflicts.c.b_version == int(found[4]))
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
        found = self._entries.get_many(list({one for row in rows for one in (row.a_id, row.b_id)}))
        told = []
        for row in rows:
            if row.a_id in found and row.b_id in found:
                passages = json.loads(row.why)
                pair = Pair(found[row.a_id], found[row.b_id], passages["a"], passages["b"])
                told.append(Conflict(pair, Resolution(row.settled) if row.settled else None, row.judged_at))
        return told


def _passage(entry: Entry, hit: Hit) -> str:
    """What a chunk says; the index does not hold it."""
    return (chunks(entry.text)[hit.ordinal :] or [entry.text])[0]


def _pair_id(a: Entry, b: Entry) -> str:
    return f"{a.id}.{a.version}~{b.id}.{b.version}"


def _pair(entry: Entry, passage: str, other: Entry, others: str) -> Pair:
    mine, theirs = passage[:PASSAGE_CHARACTERS], others[:PASSAGE_CHARACTERS]
    if (entry.first_day, entry.id) < (other.first_day, other.id):
        return Pair(entry, other, mine, theirs)
    return Pair(other, entry, theirs, mine)


def _standing(owner: str | BindParameter[str]) -> Select[Any]:
    """Verdicts on pairs of which neither entry was edited or removed since."""
    query = select(conflicts).where(conflicts.c.owner == owner)
    for name in ("a", "b"):
        there = entries.alias()
        version, entry_id = conflicts.c[f"{name}_version"], conflicts.c[f"{name}_id"]
        same = and_(there.c.owner == conflicts.c.owner, there.c.id == entry_id, there.c.version == version)
        query = query.join(there, and_(same, ~there.c.removed))
    return query


# Every recall runs this query, and building it takes longer than running it: 0.8 ms of CPU time.
_SUPERSEDING = _standing(bindparam("owner", type_=String)).where(
    conflicts.c.settled.in_(_LOSING_SIDES), conflicts.c.verdict == Verdict.CONTRADICTS
)
