"""What a purge leaves on the disk: nothing, wherever the diary keeps what was said.

The whole data folder is searched for the words that were purged, as in attack/purge_ghosts.py.

.venv/bin/python -m pytest tests/diary/ledger/test_erasure.py
"""

import random
import sqlite3
from collections.abc import Iterable
from pathlib import Path

import pytest
from fake_embedder import DIMENSION, FakeEmbedder
from sqlalchemy import create_engine, text

from services.diary.entry import EntryDraft, Source
from services.diary.index.embedded.index import EdgeIndex
from services.diary.index.indexing import build_chunks
from services.diary.index.types import EntryKey
from services.diary.index.verification import verify
from services.diary.ledger.ledger import Ledger, LedgerOptions
from services.diary.ledger.owner_ledger import OwnerLedger
from services.diary.ledger.paging import EntryFilter
from services.diary.reflection.conversations import Conversations
from services.diary.reflection.reflections import Reflections

OWNER = "ada"
SECRET = "The password of the harbour gate is velvet heron nineteen."
TURNS = [
    {"role": "user", "content": "What was the password again?"},
    {"role": "assistant", "content": f"I wrote it down once: {SECRET}"},
]
OTHERS = [
    {"role": "user", "content": "How was the sea?"},
    {"role": "assistant", "content": "Grey, and so calm that we rowed out to the second buoy."},
]


def leftovers(folder: Path, words: Iterable[str]) -> dict[str, list[str]]:
    """The words that each file still has, as text or in JSON."""
    matches = {}
    for path in folder.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        if here := [word for word in words if word.encode() in content]:
            matches[path.name] = here
    return matches


def count_of_erasures(folder: Path) -> int:
    with sqlite3.connect(folder / "ledger.sqlite3") as connection:
        return int(connection.execute("SELECT count(*) FROM erasures").fetchone()[0])


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_no_file_has_a_word_of_what_was_purged(tmp_path: Path, seed: int):
    """attack/purge_ghosts.py: cells that were moved left their text in gaps of the pages."""
    chance, purged = random.Random(seed), []
    with Ledger(f"sqlite:///{tmp_path}/ledger.sqlite3") as ledger:
        diary = ledger.for_owner(OWNER)
        ids: list[tuple[str, str]] = []
        for n in range(120):
            word = f"secretword{n:06d}"
            entry = diary.add(EntryDraft(text=f"{word} " + "x" * chance.randrange(400), tags=[f"tag{word}"]))
            ids.append((entry.id, word))
            if n % 3 == 0:
                other, text = chance.choice(ids)
                diary.edit(other, EntryDraft(text=f"{text} again " + "y" * chance.randrange(400)))
        chance.shuffle(ids)
        for entry_id, word in ids[:40]:
            diary.remove(entry_id, purge=True)
            purged.append(word)
            assert diary.is_erased(entry_id)
        assert leftovers(tmp_path, purged) == {}
    assert leftovers(tmp_path, purged) == {}
    assert len(leftovers(tmp_path, [word for _, word in ids[40:]])["ledger.sqlite3"]) == 80


def test_the_index_never_has_a_word_of_an_entry(tmp_path: Path, ledger: Ledger):
    index = EdgeIndex(tmp_path / "index", "fake", DIMENSION)
    entries = [
        ledger.for_owner(OWNER).add(EntryDraft(text=f"secretword{n:06d} of the heron")) for n in range(50)
    ]
    index.upsert(build_chunks(entries, FakeEmbedder()))
    index.delete([EntryKey(OWNER, entry.id) for entry in entries[:25]])
    index.close()
    assert leftovers(tmp_path / "index", ["secretword", "heron"]) == {}


def test_a_reader_of_before_delays_it_and_it_is_finished_later(tmp_path: Path, ledger: Ledger):
    entry = ledger.for_owner(OWNER).add(EntryDraft(text=SECRET))
    with ledger.reading() as connection:
        connection.execute(text("SELECT * FROM entries")).all()
        ledger.for_owner(OWNER).remove(entry.id, purge=True)
        assert not ledger.for_owner(OWNER).is_erased(entry.id)
        assert not ledger.finish_erasures()
    assert ledger.finish_erasures()
    assert ledger.for_owner(OWNER).is_erased(entry.id)
    assert leftovers(tmp_path, [SECRET]) == {}


def test_a_large_file_is_left_to_the_worker_and_survives_a_crash(tmp_path: Path):
    url = f"sqlite:///{tmp_path}/ledger.sqlite3"
    ledger = Ledger(url, LedgerOptions(purge_rewrite_bytes=0))
    entry = ledger.for_owner(OWNER).add(EntryDraft(text=SECRET))
    ledger.for_owner(OWNER).remove(entry.id, purge=True)
    assert not ledger.for_owner(OWNER).is_erased(entry.id)
    with Ledger(url) as again:  # the process before was killed
        assert again.finish_erasures()
        assert again.for_owner(OWNER).is_erased(entry.id)
    assert leftovers(tmp_path, [SECRET]) == {}
    ledger.close()


def test_a_file_of_an_older_version_is_rewritten_once(tmp_path: Path):
    """It may have gaps with what was purged before."""
    with Ledger(f"sqlite:///{tmp_path}/ledger.sqlite3") as ledger:
        assert count_of_erasures(tmp_path) == 1
        assert ledger.finish_erasures()
    assert count_of_erasures(tmp_path) == 0


class TestConversations:
    def heard(self, ledger: Ledger) -> OwnerLedger:
        for turns in (TURNS, OTHERS):
            Conversations(ledger).record(OWNER, turns)
            request = {"messages": [{"role": "user", "content": f"Write of: {turns[1]['content']}"}]}
            Reflections(ledger).add(OWNER, turns, len(turns), request, "2026-01-02")
        return ledger.for_owner(OWNER)

    def check(self, ledger: Ledger, folder: Path) -> None:
        assert ledger.finish_erasures()
        assert leftovers(folder, ["velvet heron"]) == {}
        assert leftovers(folder, ["second buoy"])

    def test_one_that_quotes_a_purged_entry_is_erased_and_others_stay(self, tmp_path: Path, ledger: Ledger):
        diary = self.heard(ledger)
        diary.add(EntryDraft(text=f"A day at sea. {SECRET} Then home.", id="e"))
        diary.remove("e", purge=True)
        self.check(ledger, tmp_path)
        states = {damage.state for damage in Reflections(ledger).with_state(OWNER, "done")}
        assert states == {"done"}
        assert len(Reflections(ledger).due(10)) == 1

    def test_one_that_a_purged_entry_came_from_is_erased(self, tmp_path: Path, ledger: Ledger):
        diary = self.heard(ledger)
        origin = {"turns": TURNS, "reflection": "r"}
        diary.add(EntryDraft(text="I told a secret.", id="e"), source=Source.REFLECTION, origin=origin)
        diary.remove("e", purge=True)
        self.check(ledger, tmp_path)

    def test_the_turns_beside_another_entry_are_erased_not_its_text(self, tmp_path: Path, ledger: Ledger):
        diary = self.heard(ledger)
        origin = {"turns": TURNS, "reflection": "r"}
        diary.add(EntryDraft(text="I told a secret.", id="kept"), source=Source.REFLECTION, origin=origin)
        diary.add(EntryDraft(text=SECRET, id="e"))
        diary.remove("e", purge=True)
        self.check(ledger, tmp_path)
        entry = diary.get("kept")
        assert (entry.text, entry.origin) == ("I told a secret.", {"turns": [], "reflection": "r"})
        assert list(ledger.damages()) == []

    def test_a_word_that_everybody_uses_is_no_quotation(self, ledger: Ledger):
        diary = self.heard(ledger)
        diary.add(EntryDraft(text="Grey.", id="e"))
        diary.remove("e", purge=True)
        assert len(Reflections(ledger).due(10)) == 2

    def test_another_owners_conversations_are_not_touched(self, ledger: Ledger):
        self.heard(ledger)
        ledger.for_owner("bríd").add(EntryDraft(text=SECRET, id="e"))
        ledger.for_owner("bríd").remove("e", purge=True)
        assert len(Reflections(ledger).due(10)) == 2


def test_a_request_that_made_a_purged_entry_still_writes_once(ledger: Ledger):
    """The hash of its body is erased, its key is not."""
    draft = EntryDraft(text=SECRET, id="e")
    ledger.for_owner(OWNER).add(draft, "key")
    tombstone = ledger.for_owner(OWNER).remove("e", purge=True)
    with ledger.reading() as connection:
        assert connection.execute(text("SELECT body_sha256 FROM idempotency_keys")).scalar_one() == ""
    assert ledger.for_owner(OWNER).add(draft, "key") == tombstone


class TestDamage:
    @pytest.mark.parametrize("column", ["text", "date", "mood", "tags", "written_at", "first_day", "origin"])
    @pytest.mark.parametrize("table", ["entries", "versions"])
    def test_a_row_that_is_not_as_it_was_written_is_named(
        self, tmp_path: Path, ledger: Ledger, table: str, column: str
    ):
        index = EdgeIndex(tmp_path / "index", "fake", DIMENSION)
        draft = EntryDraft(text="The heron.", id="e", mood="calm", tags=["t"], date="2023-05-08")
        origin = {"turns": [{"role": "user", "content": "x"}], "reflection": "r"}
        ledger.for_owner(OWNER).add(draft, origin=origin)
        ledger.for_owner(OWNER).edit("e", draft.model_copy(update={"text": "The grey heron."}))
        assert [damage for damage in verify(ledger, index) if damage.kind == "damaged"] == []
        engine = create_engine(f"sqlite:///{tmp_path}/ledger.sqlite3")
        with engine.begin() as connection:  # one letter, as a flipped bit leaves it
            changed = (
                f"substr({column}, 1, 3) || char(unicode(substr({column}, 4, 1)) + 1) || substr({column}, 5)"
            )
            connection.execute(text(f"UPDATE {table} SET {column} = {changed}"))
        engine.dispose()
        (damage,) = (damage for damage in verify(ledger, index) if damage.kind == "damaged")
        assert (damage.owner, damage.entry_id) == (OWNER, "e")
        assert f"version {2 if table == 'entries' else 1}" in damage.what
        index.close()

    def test_a_flipped_bit_anywhere_in_the_files_texts_is_found(self, tmp_path: Path):
        """Also one that makes the text no UTF-8 any more."""
        index = EdgeIndex(tmp_path / "index", "fake", DIMENSION)
        file = tmp_path / "ledger.sqlite3"
        with Ledger(f"sqlite:///{file}") as ledger:
            ledger.for_owner(OWNER).add(EntryDraft(text="The heron of the harbour.", id="e"))
        content = bytearray(file.read_bytes())
        for bit in (0, 3, 7):
            flipped = bytearray(content)
            for offset in range(len(flipped)):
                if flipped[offset : offset + 25] == b"The heron of the harbour.":
                    flipped[offset + 6] ^= 1 << bit
            file.write_bytes(flipped)
            with Ledger(f"sqlite:///{file}") as ledger:
                assert [damage.entry_id for damage in verify(ledger, index) if damage.kind == "damaged"] == [
                    "e"
                ]
        index.close()

    def test_every_way_of_writing_seals_what_it_writes(self, either_ledger_url: str):
        with Ledger(either_ledger_url) as ledger:
            self.write_in_every_way(ledger)
            assert list(ledger.damages()) == []

    def write_in_every_way(self, ledger: Ledger) -> None:
        diary = ledger.for_owner(OWNER)
        for n in range(4):
            diary.add(EntryDraft(text=f"entry {n}", id=f"e{n}"))
        diary.edit("e0", EntryDraft(text="edited"))
        diary.remove("e1")
        diary.remove("e2", purge=True)
        made = diary.begin_import("file")
        diary.add_rows(made, [EntryDraft(text="again", id="e1"), EntryDraft(text="new \x00 é", date="1998")])
        diary.remove_where(EntryFilter(text="entry"))
