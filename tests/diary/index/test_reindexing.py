"""The index made anew over a real ledger, on both engines, while the diary changes.

.venv/bin/python -m pytest tests/diary/index/test_reindexing.py
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from fake_embedder import FakeEmbedder, index_query
from index_backends import Folder, Server, chunk, standin

from services.diary.embedding.embedder import Embedder, Vector
from services.diary.entry import EntryDraft, IndexState
from services.diary.index.engine import IndexEngine
from services.diary.index.indexing import build_chunks
from services.diary.index.reindexing import Progress
from services.diary.index.reindexing import reindex as reindex_in_batches
from services.diary.index.types import EntryKey, Hit
from services.diary.index.verification import verify
from services.diary.ledger.ledger import Ledger
from services.errors import ConfigError, DiaryUnavailable, NotFound


def reindex(ledger: Ledger, embedder: Embedder, index: IndexEngine, *progress: Progress) -> int:
    return reindex_in_batches(ledger, embedder, index, *progress, batch_entries=2)


class Interrupted(FakeEmbedder):
    """Does something once, in the middle of the embedding."""

    def __init__(self, meanwhile: Callable[[], None], at_batch: int = 1) -> None:
        self._meanwhile = meanwhile
        self._left = at_batch

    def embed_documents(self, texts: Sequence[str]) -> list[Vector]:
        self._left -= 1
        if self._left == 0:
            self._meanwhile()
        return super().embed_documents(texts)


class Picky(FakeEmbedder):
    """Can't read one text."""

    def embed_documents(self, texts: Sequence[str]) -> list[Vector]:
        if any("poison" in text for text in texts):
            raise ValueError("this model can't read it")
        return super().embed_documents(texts)


class Diary:
    """A ledger, an index, and a scribe of three lines."""

    def __init__(self, ledger: Ledger, index: IndexEngine) -> None:
        self.ledger = ledger
        self.index = index
        self.embedder = FakeEmbedder()

    def write(self, *texts: str, owner: str = "ada") -> None:
        for text in texts:
            self.ledger.for_owner(owner).add(EntryDraft(text=text, id=text.split()[0]))
        self.work()

    def work(self, index: IndexEngine | None = None) -> None:
        """What lies due is brought into the index, as a worker does it."""
        due = self.ledger.due(1_000)
        keys = {EntryKey(entry.owner, entry.id): entry.version for entry in due}
        (index or self.index).upsert(build_chunks(due, self.embedder))
        (index or self.index).delete(keys, except_version=keys)
        self.ledger.mark_indexed(due)

    def texts(self, owner: str = "ada") -> set[str]:
        return {
            self._text(owner, hit) for hit in self.index.for_owner(owner).search(index_query("any"), 1_000)
        }

    def _text(self, owner: str, hit: Hit) -> str:
        """What a version said; of an entry that the ledger does not know, its id."""
        with suppress(NotFound):
            history = self.ledger.for_owner(owner).history(hit.entry_id)
            return next(entry.text for entry in history if entry.version == hit.version)
        return hit.entry_id


@pytest.fixture(params=["edge", "server"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Folder | Server]:
    if request.param == "edge":
        yield Folder(tmp_path / "index")
        return
    with standin(tmp_path / "qdrant", request.getfixturevalue("port")) as url:
        yield Server(url)


@pytest.fixture
def diary(ledger: Ledger, backend: Folder | Server) -> Iterator[Diary]:
    diary = Diary(ledger, backend.open())
    yield diary
    diary.index.close()


def test_it_holds_all_that_the_ledger_has(diary: Diary, backend: Folder | Server):
    diary.write("a", "b", "c")
    diary.write("a", "hers", owner="bríd")
    before = backend.left()
    assert reindex(diary.ledger, diary.embedder, diary.index) == 5
    assert verify(diary.ledger, diary.index) == []
    assert (diary.texts(), diary.texts("bríd")) == ({"a", "b", "c"}, {"a", "hers"})
    assert backend.left() != before
    assert len(backend.left()) == 1


def test_an_index_that_holds_nonsense_is_mended_by_it(diary: Diary):
    diary.write("a", "b")
    diary.index.delete([EntryKey("ada", "a")])
    diary.index.upsert([chunk("stray"), chunk("b", version=7)])
    reindex(diary.ledger, diary.embedder, diary.index)
    assert diary.texts() == {"a", "b"}
    assert verify(diary.ledger, diary.index) == []


def test_the_old_one_answers_until_the_switch(diary: Diary):
    diary.write("a", "b", "c")
    results: list[set[str]] = []
    reindex(diary.ledger, Interrupted(lambda: results.append(diary.texts()), at_batch=2), diary.index)
    assert results == [{"a", "b", "c"}]


@pytest.mark.parametrize("at_batch", [1, 2])
def test_what_is_written_edited_and_removed_meanwhile_is_caught_up_with(diary: Diary, at_batch: int):
    diary.write("a", "b", "c", "d")

    def meanwhile() -> None:
        mine = diary.ledger.for_owner("ada")
        mine.edit("a", EntryDraft(text="a edited"))
        mine.edit("d", EntryDraft(text="d edited"))
        mine.remove("b")
        mine.remove("c")
        diary.write("e")

    reindex(diary.ledger, Interrupted(meanwhile, at_batch), diary.index)
    assert diary.texts() == {"a edited", "d edited", "e"}
    assert verify(diary.ledger, diary.index) == []


def test_what_another_worker_wrote_into_the_old_one_before_the_switch_and_marked_after_it(diary: Diary):
    """It upserted, the switch came, and only then it told the ledger."""
    diary.write("a")
    entry = diary.ledger.for_owner("ada").add(EntryDraft(text="late", id="late"))
    diary.index.upsert(build_chunks([entry], diary.embedder))
    reindex(diary.ledger, diary.embedder, diary.index)
    diary.ledger.mark_indexed([entry])
    assert verify(diary.ledger, diary.index) == []
    assert diary.texts() == {"a", "late"}


def test_what_changes_after_the_switch_is_not_overwritten_by_what_was_read_before(diary: Diary):
    """A worker writes the second version into the new index while the first is being embedded for it."""
    diary.write("a", "b")
    for name in ("c", "d"):
        diary.ledger.for_owner("ada").add(EntryDraft(text=name, id=name))

    def meanwhile() -> None:
        diary.ledger.for_owner("ada").edit("c", EntryDraft(text="c edited"))
        diary.work()

    reindex(diary.ledger, Interrupted(meanwhile, at_batch=2), diary.index)
    assert diary.texts() == {"a", "b", "c edited", "d"}
    assert verify(diary.ledger, diary.index) == []


def test_one_entry_that_can_not_be_read_keeps_no_other_out(diary: Diary):
    diary.write("a", "b", "poison", "c")
    assert reindex(diary.ledger, Picky(), diary.index) == 3
    assert diary.texts() == {"a", "b", "c"}
    failed = diary.ledger.for_owner("ada").get("poison")
    assert (failed.state, failed.reason) == (IndexState.FAILED, "ValueError: this model can't read it")


def test_progress_counts_entries(diary: Diary):
    diary.write("a", "b", "c")
    progress: list[int] = []
    reindex(diary.ledger, diary.embedder, diary.index, progress.append)
    assert progress == [2, 3]


def test_one_that_fails_leaves_the_old_index_and_nothing_else(diary: Diary, backend: Folder | Server):
    diary.write("a", "b", "c")
    before = backend.left()

    def away() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reindex(diary.ledger, Interrupted(away, at_batch=2), diary.index)
    assert diary.texts() == {"a", "b", "c"}
    assert backend.left() == before


def test_another_model_takes_over(diary: Diary, backend: Folder | Server):
    diary.write("a", "b")
    diary.index.close()
    other = backend.open("other", replacing=True)
    reindex(diary.ledger, diary.embedder, other)
    assert verify(diary.ledger, other) == []
    other.close()
    with pytest.raises(ConfigError):
        backend.open()
    diary.index = backend.open("other")
    assert diary.texts() == {"a", "b"}


def test_an_index_that_is_away_fails_no_entry(ledger: Ledger, tmp_path: Path, port: int):
    with standin(tmp_path / "qdrant", port) as url:
        diary = Diary(ledger, Server(url).open())
        diary.write("a", "b", "c")
    with pytest.raises(DiaryUnavailable):
        reindex(ledger, diary.embedder, diary.index)
    assert {entry.state for entry in ledger.iter_current()} == {IndexState.INDEXED}
    diary.index.close()
