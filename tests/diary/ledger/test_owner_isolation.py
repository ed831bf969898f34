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
class Content:
    """What the model knows of one version."""

    text: str
    date: str
    tags: tuple[str, ...]
    removed: bool = False


@dataclass
class Diary:
    """What the model knows of one owner: every version of every entry, and the keys that were used."""

    entries: dict[str, list[Content]] = field(default_factory=dict)
    keys: dict[str, tuple[str, int]] = field(default_factory=dict)

    def living(self) -> dict[str, Content]:
        return {
            entry_id: content[-1] for entry_id, content in self.entries.items() if not content[-1].removed
        }


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

    def draft(self, owner: str, text: str, date: str, tags: list[str], entry_id: str | None) -> EntryDraft:
        return EntryDraft(text=f"{owner} {text}", date=date, tags=tags, id=entry_id)

    @rule(owner=owners, entry_id=ids, text=words, date=dates, tags=tags, key=st.sampled_from(["", "k", "l"]))
    def add(self, owner: str, entry_id: str, text: str, date: str, tags: list[str], key: str) -> None:
        diary, draft = self.diaries[owner], self.draft(owner, text, date, tags, entry_id)
        content = Content(draft.text, date, tuple(tags))
        versions = diary.entries.get(entry_id, [])
        try:
            added = self.of(owner).add(draft, f"{key} {draft.sha256()}" if key else None)
        except EntryConflict:
            assert not versions[-1].removed
            assert content not in versions
            return
        if key and (made := diary.keys.get(f"{key} {draft.sha256()}")):
            assert added.version in (made[1], len(versions))  # the second when it was purged since
            return
        if not versions or versions[-1].removed:
            diary.entries[entry_id] = [*versions, content]
        else:
            assert content in versions
        assert (added.owner, added.version) == (self.of(owner).owner, len(diary.entries[entry_id]))
        if key:
            diary.keys[f"{key} {draft.sha256()}"] = (entry_id, added.version)

    @rule(owner=owners, entry_id=ids, text=words, date=dates, tags=tags, behind=st.integers(0, 1))
    def edit(self, owner: str, entry_id: str, text: str, date: str, tags: list[str], behind: int) -> None:
        diary, draft = self.diaries[owner], self.draft(owner, text, date, tags, None)
        versions = diary.entries.get(entry_id, [])
        try:
            edited = self.of(owner).edit(entry_id, draft, len(versions) - behind)
        except NotFound:
            assert entry_id not in diary.living()
            return
        except EntryConflict:
            assert behind
            return
        assert not behind
        content = Content(draft.text, date, tuple(tags))
        if content != versions[-1]:
            versions.append(content)
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
            versions.append(Content("", versions[-1].date, (), removed=True))
        if purge:
            versions[:] = [Content("", tombstone.date, (), removed=True)] * len(versions)
        assert tombstone.version == len(versions)

    @rule(owner=owners, entry_filter=filters)
    def remove_where(self, owner: str, entry_filter: EntryFilter) -> None:
        listed = [entry.id for entry in self.of(owner).iter_entries(entry_filter)]
        assert self.of(owner).remove_where(entry_filter) == len(listed)
        for entry_id in listed:
            versions = self.diaries[owner].entries[entry_id]
            versions.append(Content("", versions[-1].date, (), removed=True))

    @rule(owner=owners, rows=st.lists(st.tuples(ids, words, dates, tags), max_size=4))
    def take_in(self, owner: str, rows: list[tuple[str, str, str, list[str]]]) -> None:
        drafts = [self.draft(owner, text, date, tags, entry_id) for entry_id, text, date, tags in rows]
        owner_ledger = self.of(owner)
        added = owner_ledger.add_rows(owner_ledger.begin_import("a"), drafts)
        assert set(added.rejections.values()) <= {ID_EXISTS, TEXT_EXISTS}
        accepted = 0
        for position, draft in enumerate(drafts):
            content = Content(draft.text, str(draft.date), tuple(draft.tags))
            versions = self.diaries[owner].entries.setdefault(str(draft.id), [])
            is_new = not versions or versions[-1].removed
            assert (position in added.rejections) is (not is_new and content not in versions)
            if is_new:
                versions.append(content)
                accepted += 1
        assert added.accepted == accepted

    @rule(entry_filter=filters, limit=st.integers(1, 3))
    def search(self, entry_filter: EntryFilter, limit: int) -> None:
        for owner in OWNERS:
            owner_ledger, entries, cursor = self.of(owner), [], None
            while cursor is not None or not entries:
                page = owner_ledger.page(entry_filter, limit, cursor)
                entries += page.entries
                if (cursor := page.next_cursor) is None:
                    break
            assert entries == [*owner_ledger.iter_entries(entry_filter)][::-1]
            assert len(entries) == owner_ledger.count(entry_filter)
            assert {entry.id for entry in entries} == {
                entry_id
                for entry_id, content in self.diaries[owner].living().items()
                if is_match(entry_filter, content)
            }

    @rule(owner=owners, entry_id=ids)
    def cross(self, owner: str, entry_id: str) -> None:
        """What the other one's cursors, ids and versions are good for here: nothing of theirs."""
        owner_ledger, other = self.of(owner), self.of(next(name for name in OWNERS if name != owner))
        if cursor := other.page(ALL, 1).next_cursor:
            assert_owned(owner_ledger.page(ALL, 10, cursor).entries, owner)
        other_ids = {entry.id for entry in other.iter_entries(ALL)}
        assert_owned([*owner_ledger.get_many([*other_ids]).values()], owner)
        try:
            assert_owned(owner_ledger.history(entry_id), owner)
            owner_ledger.retry(entry_id, 1)
        except FieldError:
            pass

    @rule(limit=st.integers(1, 5), fails=st.booleans())
    def work(self, limit: int, fails: bool) -> None:
        """The worker's part, over both."""
        own_ids = [entry for entry in self.ledger.due(10_000) if entry.owner.startswith(f"{self.runs} ")]
        for entry in own_ids[:limit]:
            if fails:
                self.ledger.mark_failed(entry, "no")
        if not fails:
            self.ledger.mark_indexed(own_ids[:limit])

    @invariant()
    def each_has_their_own_diary_and_all_of_it(self) -> None:
        for owner, diary in self.diaries.items():
            owner_ledger = self.of(owner)
            entries = {entry.id: entry for entry in owner_ledger.iter_entries(ALL)}
            assert_owned([*entries.values()], owner)
            assert {entry_id: to_content(entry) for entry_id, entry in entries.items()} == diary.living()
            for entry_id, versions in diary.entries.items():
                history = owner_ledger.history(entry_id)
                assert_owned(history, owner)
                contents = [to_content(entry) for entry in reversed(history)]
                assert contents == versions[len(versions) - len(contents) :]  # those before were purged
            for state in IndexState:
                assert_owned(owner_ledger.with_state(state, 100).entries, owner)


def to_content(entry: Entry) -> Content:
    return Content(entry.text, entry.date, entry.tags, entry.removed)


def assert_owned(entries: list[Entry], owner: str) -> None:
    for entry in entries:
        assert entry.owner.endswith(f" {owner}")
        assert entry.removed or entry.text.startswith(f"{owner} ")


def is_match(entry_filter: EntryFilter, content: Content) -> bool:
    """The filter's meaning, said once more."""
    spans = {"1998": ("1998-01-01", "1998-12-31"), "spring 1998": ("1998-03-01", "1998-05-31")}
    first, last = spans.get(content.date, (content.date[:10], content.date[:10]))
    return (
        (not entry_filter.first_day or last >= entry_filter.first_day)
        and (not entry_filter.last_day or first <= entry_filter.last_day)
        and entry_filter.text.casefold() in content.text.casefold()
        and (not entry_filter.tag or entry_filter.tag in content.tags)
    )


def test_two_owners_never_meet_whatever_they_do(either_ledger_url: str):
    with Ledger(either_ledger_url) as ledger:
        machine = type("OverThisLedger", (TwoOwners,), {"ledger": ledger})
        run_state_machine_as_test(
            machine, settings=settings(max_examples=20, stateful_step_count=30, deadline=None)
        )


def test_a_thousand_searches_edits_and_deletes_of_each_of_two_owners_cross_nowhere(either_ledger_url: str):
    chance = random.Random(1)
    with Ledger(either_ledger_url) as ledger:
        for _ in range(1000):
            for owner in OWNERS:
                owner_ledger, entry_id = ledger.for_owner(owner), f"e{chance.randrange(40)}"
                draft = EntryDraft(text=f"{owner} {chance.random()}", date=f"{chance.randrange(1990, 2000)}")
                entries = owner_ledger.get_many([entry_id])
                if not entries:
                    owner_ledger.add(draft.model_copy(update={"id": entry_id}))
                elif chance.random() < 0.5:
                    owner_ledger.edit(entry_id, draft)
                else:
                    owner_ledger.remove(entry_id, purge=chance.random() < 0.3)
                entry_filter = EntryFilter(
                    text=chance.choice(OWNERS), first_day=f"{chance.randrange(1990, 2000)}-01-01"
                )
                for entries in (owner_ledger.page(entry_filter, 20).entries, owner_ledger.history(entry_id)):
                    assert all(entry.owner == owner for entry in entries)
                    assert all(entry.removed or entry.text.startswith(f"{owner} ") for entry in entries)
