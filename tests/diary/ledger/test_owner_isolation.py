"""Two owners do everything at once, in any order, and neither ever meets the other's diary.

On SQLite and PostgreSQL. A model beside the ledger, two dictionaries, says what each should see.

.venv/bin/python -m pytest tests/diary/ledger/test_owner_isolation.py
"""

import random
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from services.diary.entry import Entry, EntryDraft, IndexState
from services.diary.ledger.imports import ID_EXISTS, TEXT_EXISTS
from services.diary.ledger.ledger import Ledger
from services.diary.ledger.owner_ledger import OwnerLedger
from services.diary.ledger.paging import EntryFilter
from services.errors import EntryConflict, FieldError, NotFound

ALL = EntryFilter()
OWNERS = ("ada", "bríd")
IDS = ("a", "b", "c", "d")
owners = st.sampled_from(OWNERS)
ids = st.sampled_from(IDS)
words = st.sampled_from(["rain", "RAIN and sea", "sea\x00", "%"])
dates = st.sampled_from(["1998", "spring 1998", "1998-04-01", "1998-04-01T10:00", "2001-01-01"])
tags = st.lists(st.sampled_from(["x", "y", ", "]), unique=True, max_size=2)
filters = st.builds(
    EntryFilter,
    first_day=st.sampled_from(["", "1998-04-01", "2000-01-01"]),
    last_day=st.sampled_from(["", "1998-04-01", "1999-12-31"]),
    text=st.sampled_from(["", "rain", "AND S", "\x00", "%"]),
    tag=st.sampled_from(["", "x", ", "]),
)


@dataclass
class Said:
    """What the model knows of one version."""

    text: str
    date: str
    tags: tuple[str, ...]
    removed: bool = False


@dataclass
class Diary:
    """What the model knows of one owner: every version of every entry, and the keys that were used."""

    entries: dict[str, list[Said]] = field(default_factory=dict)
    keys: dict[str, tuple[str, int]] = field(default_factory=dict)

    def there(self) -> dict[str, Said]:
        return {entry_id: said[-1] for entry_id, said in self.entries.items() if not said[-1].removed}


class TwoOwners(RuleBasedStateMachine):
    """Every text begins with its owner's name, so that one that strays is seen at once."""

    ledger: Ledger
    runs = 0

    def __init__(self) -> None:
        super().__init__()
        TwoOwners.runs += 1  # the ledger is one for all runs: each has its own two owners in it
        self.diaries = {owner: Diary() for owner in OWNERS}

    def of(self, owner: str) -> OwnerLedger:
        return self.ledger.for_owner(f"{self.runs} {owner}")

    def draft(
        self, owner: str, text: str, date: str, its_tags: list[str], entry_id: str | None
    ) -> EntryDraft:
        return EntryDraft(text=f"{owner} {text}", date=date, tags=its_tags, id=entry_id)

    @rule(
        owner=owners, entry_id=ids, text=words, date=dates, its_tags=tags, key=st.sampled_from(["", "k", "l"])
    )
    def add(self, owner: str, entry_id: str, text: str, date: str, its_tags: list[str], key: str) -> None:
        diary, handed_in = self.diaries[owner], self.draft(owner, text, date, its_tags, entry_id)
        said = Said(handed_in.text, date, tuple(its_tags))
        versions = diary.entries.get(entry_id, [])
        try:
            added = self.of(owner).add(handed_in, f"{key} {handed_in.sha256()}" if key else None)
        except EntryConflict:
            assert not versions[-1].removed
            assert said not in versions
            return
        if key and (made := diary.keys.get(f"{key} {handed_in.sha256()}")):
            assert added.version in (made[1], len(versions))  # the second when it was purged since
            return
        if not versions or versions[-1].removed:
            diary.entries[entry_id] = [*versions, said]
        else:
            assert said in versions
        assert (added.owner, added.version) == (self.of(owner).owner, len(diary.entries[entry_id]))
        if key:
            diary.keys[f"{key} {handed_in.sha256()}"] = (entry_id, added.version)

    @rule(owner=owners, entry_id=ids, text=words, date=dates, its_tags=tags, behind=st.integers(0, 1))
    def edit(self, owner: str, entry_id: str, text: str, date: str, its_tags: list[str], behind: int) -> None:
        diary, handed_in = self.diaries[owner], self.draft(owner, text, date, its_tags, None)
        versions = diary.entries.get(entry_id, [])
        try:
            edited = self.of(owner).edit(entry_id, handed_in, len(versions) - behind)
        except NotFound:
            assert entry_id not in diary.there()
            return
        except EntryConflict:
            assert behind
            return
        assert not behind
        said = Said(handed_in.text, date, tuple(its_tags))
        if said != versions[-1]:
            versions.append(said)
        assert edited.version == len(versions)

    @rule(owner=owners, entry_id=ids, purge=st.booleans())
    def remove(self, owner: str, entry_id: str, purge: bool) -> None:
        versions = self.diaries[owner].entries.get(entry_id)
        try:
            tombstone = self.of(owner).remove(entry_id, purge)
        except NotFound:
            assert versions is None
            return
        assert versions
        if not versions[-1].removed:
            versions.append(Said("", versions[-1].date, (), removed=True))
        if purge:
            versions[:] = [Said("", tombstone.date, (), removed=True)] * len(versions)
        assert tombstone.version == len(versions)

    @rule(owner=owners, picked=filters)
    def remove_where(self, owner: str, picked: EntryFilter) -> None:
        listed = [entry.id for entry in self.of(owner).iter_entries(picked)]
        assert self.of(owner).remove_where(picked) == len(listed)
        for entry_id in listed:
            versions = self.diaries[owner].entries[entry_id]
            versions.append(Said("", versions[-1].date, (), removed=True))

    @rule(owner=owners, rows=st.lists(st.tuples(ids, words, dates, tags), max_size=4))
    def take_in(self, owner: str, rows: list[tuple[str, str, str, list[str]]]) -> None:
        drafts = [
            self.draft(owner, text, date, its_tags, entry_id) for entry_id, text, date, its_tags in rows
        ]
        hers = self.of(owner)
        added = hers.add_rows(hers.begin_import("a"), drafts)
        assert set(added.rejections.values()) <= {ID_EXISTS, TEXT_EXISTS}
        accepted = 0
        for place, handed_in in enumerate(drafts):
            said = Said(handed_in.text, str(handed_in.date), tuple(handed_in.tags))
            versions = self.diaries[owner].entries.setdefault(str(handed_in.id), [])
            is_new = not versions or versions[-1].removed
            assert (place in added.rejections) is (not is_new and said not in versions)
            if is_new:
                versions.append(said)
                accepted += 1
        assert added.accepted == accepted

    @rule(picked=filters, limit=st.integers(1, 3))
    def search(self, picked: EntryFilter, limit: int) -> None:
        for owner in OWNERS:
            hers, told, cursor = self.of(owner), [], None
            while cursor is not None or not told:
                page = hers.page(picked, limit, cursor)
                told += page.entries
                if (cursor := page.next_cursor) is None:
                    break
            assert told == [*hers.iter_entries(picked)][::-1]
            assert len(told) == hers.count(picked)
            assert {entry.id for entry in told} == {
                entry_id for entry_id, said in self.diaries[owner].there().items() if picks(picked, said)
            }

    @rule(owner=owners, entry_id=ids)
    def cross(self, owner: str, entry_id: str) -> None:
        """What the other one's cursors, ids and versions are good for here: nothing of theirs."""
        hers, other = self.of(owner), self.of(next(name for name in OWNERS if name != owner))
        if cursor := other.page(ALL, 1).next_cursor:
            assert_hers(hers.page(ALL, 10, cursor).entries, owner)
        theirs = {entry.id for entry in other.iter_entries(ALL)}
        assert_hers([*hers.get_many([*theirs]).values()], owner)
        try:
            assert_hers(hers.history(entry_id), owner)
            hers.retry(entry_id, 1)
        except FieldError:
            pass

    @rule(limit=st.integers(1, 5), fails=st.booleans())
    def work(self, limit: int, fails: bool) -> None:
        """The worker's part, over both."""
        mine = [entry for entry in self.ledger.due(10_000) if entry.owner.startswith(f"{self.runs} ")]
        for entry in mine[:limit]:
            if fails:
                self.ledger.mark_failed(entry, "no")
        if not fails:
            self.ledger.mark_indexed(mine[:limit])

    @invariant()
    def each_has_their_own_diary_and_all_of_it(self) -> None:
        for owner, diary in self.diaries.items():
            hers = self.of(owner)
            told = {entry.id: entry for entry in hers.iter_entries(ALL)}
            assert_hers([*told.values()], owner)
            assert {entry_id: as_said(entry) for entry_id, entry in told.items()} == diary.there()
            for entry_id, versions in diary.entries.items():
                history = hers.history(entry_id)
                assert_hers(history, owner)
                kept = [as_said(entry) for entry in reversed(history)]
                assert kept == versions[len(versions) - len(kept) :]  # those before were purged
            for state in IndexState:
                assert_hers(hers.with_state(state, 100).entries, owner)


def as_said(entry: Entry) -> Said:
    return Said(entry.text, entry.date, entry.tags, entry.removed)


def assert_hers(told: list[Entry], owner: str) -> None:
    for entry in told:
        assert entry.owner.endswith(f" {owner}")
        assert entry.removed or entry.text.startswith(f"{owner} ")


def picks(picked: EntryFilter, said: Said) -> bool:
    """The filter's meaning, said once more."""
    spans = {"1998": ("1998-01-01", "1998-12-31"), "spring 1998": ("1998-03-01", "1998-05-31")}
    first, last = spans.get(said.date, (said.date[:10], said.date[:10]))
    return (
        (not picked.first_day or last >= picked.first_day)
        and (not picked.last_day or first <= picked.last_day)
        and picked.text.casefold() in said.text.casefold()
        and (not picked.tag or picked.tag in said.tags)
    )


def test_two_owners_never_meet_whatever_they_do(either_url: str):
    with Ledger(either_url) as ledger:
        machine = type("OverThisLedger", (TwoOwners,), {"ledger": ledger})
        run_state_machine_as_test(
            machine, settings=settings(max_examples=20, stateful_step_count=30, deadline=None)
        )


def test_a_thousand_searches_edits_and_deletes_of_each_of_two_owners_cross_nowhere(either_url: str):
    chance = random.Random(1)
    with Ledger(either_url) as ledger:
        for _ in range(1000):
            for owner in OWNERS:
                hers, entry_id = ledger.for_owner(owner), f"e{chance.randrange(40)}"
                handed_in = EntryDraft(
                    text=f"{owner} {chance.random()}", date=f"{chance.randrange(1990, 2000)}"
                )
                found = hers.get_many([entry_id])
                if not found:
                    hers.add(handed_in.model_copy(update={"id": entry_id}))
                elif chance.random() < 0.5:
                    hers.edit(entry_id, handed_in)
                else:
                    hers.remove(entry_id, purge=chance.random() < 0.3)
                picked = EntryFilter(
                    text=chance.choice(OWNERS), first_day=f"{chance.randrange(1990, 2000)}-01-01"
                )
                for told in (hers.page(picked, 20).entries, hers.history(entry_id)):
                    assert all(entry.owner == owner for entry in told)
                    assert all(entry.removed or entry.text.startswith(f"{owner} ") for entry in told)
