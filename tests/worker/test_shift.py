"""The working loop on a real Valkey, which goes away and comes back.

.venv/bin/python -m pytest tests/worker/test_shift.py
"""

import threading
import time
from collections.abc import Sequence
from datetime import timedelta

import pytest
from scribe_process import FakeEmbedder

from services.diary.embedder import Vector
from services.diary.entry import IndexState
from services.diary.index import Chunk, IndexEngine
from services.diary.jobs import diary_queue, job_id
from services.errors import DiaryUnavailable
from services.worker import work

AT_ONCE = timedelta(microseconds=1)  # lost after no time at all, instead of a minute


class UnsteadyIndex:
    """Passes on to another index, or is away."""

    def __init__(self, index: IndexEngine) -> None:
        self.index = index
        self.away = True
        self.refused = 0

    def upsert(self, chunks: Sequence[Chunk]) -> None:
        if self.away:
            self.refused += 1
            raise DiaryUnavailable("the index is away")
        self.index.upsert(chunks)


class PickyEmbedder(FakeEmbedder):
    """Can't read one word."""

    def embed_documents(self, texts: Sequence[str]) -> list[Vector]:
        if any("illegible" in text for text in texts):
            raise ValueError("what is this?")
        return super().embed_documents(texts)


class WaitingEmbedder(FakeEmbedder):
    """Holds every job until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.has_begun = threading.Event()
        self.may_end = threading.Event()

    def embed_documents(self, texts: Sequence[str]) -> list[Vector]:
        self.has_begun.set()
        self.may_end.wait(10)
        return super().embed_documents(texts)


def test_what_is_queued_is_worked_through(house, until):
    house.hire()
    early = [house.accept(f"early {number}") for number in range(10)]
    with house.at_work():
        late = [house.accept(f"late {number}") for number in range(10)]
        until(house.all_indexed)
    assert house.index.count() == len(early + late)


def test_nothing_is_left_in_the_queue_of_what_is_done(house, until):
    house.hire()
    entry = house.accept("a")
    with house.at_work():
        until(house.all_indexed)
        until(lambda: not house.jobs.waits(entry))
    assert diary_queue(house.queue).is_empty()
    assert house.jobs.report("ada", house.jobs.submit(entry)).status == "finished"


def test_an_idle_shift_ends_within_seconds(house):
    house.hire()
    with house.at_work():
        time.sleep(0.3)
        began = time.monotonic()
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("after_s", [0.0, 0.005, 0.02])
def test_a_shift_that_is_stopped_at_once_ends(house, after_s: float):
    house.hire()
    with house.at_work():
        time.sleep(after_s)


def test_a_shift_ends_within_seconds_while_the_queue_is_away(house, valkey):
    house.hire()
    with house.at_work():
        time.sleep(0.3)
        valkey.terminate()
        time.sleep(0.3)


def test_the_job_in_hand_is_finished_before_the_end(house, until):
    embedder = WaitingEmbedder()
    house.hire(embedder)
    first, second = house.accept("first"), house.accept("second")
    with house.at_work():
        until(embedder.has_begun.is_set)
        threading.Timer(0.5, embedder.may_end.set).start()
    assert house.state(first) == IndexState.INDEXED
    assert house.state(second) == IndexState.QUEUED


def test_a_job_in_hand_counts_as_waiting_and_is_told_as_started(house, until):
    embedder = WaitingEmbedder()
    house.hire(embedder)
    with house.at_work():
        until(house.shift.has_swept.is_set)
        entry = house.accept("a")
        name = job_id("ada", entry.id, 1)
        until(embedder.has_begun.is_set)
        assert house.jobs.waits(entry)
        assert house.shift.sweep(AT_ONCE) == 0
        assert house.jobs.report("ada", name).status == "started"
        embedder.may_end.set()
        until(lambda: house.jobs.report("ada", name).status == "finished")


def test_a_mistake_fails_its_own_entry_and_no_other(house, until):
    house.hire(PickyEmbedder())
    with house.at_work():
        entries = [house.accept(text) for text in ("before", "illegible", "after")]
        until(lambda: IndexState.QUEUED not in map(house.state, entries))
    assert [house.state(entry) for entry in entries] == ["indexed", "failed", "indexed"]
    failed = house.ledger.get("ada", entries[1].id)
    assert failed.reason == "ValueError: what is this?"


def test_an_entry_waits_while_the_index_is_away_and_is_indexed_when_it_heals(house, until):
    index = UnsteadyIndex(house.index)
    house.hire(index=index)
    with house.at_work():
        until(house.shift.has_swept.is_set)
        entry = house.accept("a")
        until(lambda: index.refused == 1 and not house.jobs.waits(entry))
        assert house.shift.sweep(AT_ONCE) == 1
        until(lambda: index.refused == 2 and not house.jobs.waits(entry))
        assert house.state(entry) == IndexState.QUEUED
        index.away = False
        assert house.shift.sweep(AT_ONCE) == 1
        until(lambda: house.state(entry) == IndexState.INDEXED)
    assert house.shift.sweep(timedelta()) == 0
    assert house.index.count() == 1


class TestTheSweep:
    def test_what_was_never_queued_is_found_at_the_start(self, house, until):
        house.hire()
        for number in range(5):
            house.note(f"lost {number}")
        with house.at_work():
            until(house.all_indexed)
        assert house.index.count() == 5

    def test_what_waits_in_the_queue_is_not_lost(self, house):
        house.accept("queued")
        lost = house.note("lost")
        assert house.shift.sweep(AT_ONCE) == 1
        assert house.jobs.waits(lost)
        assert house.shift.sweep(AT_ONCE) == 0

    def test_what_came_in_just_now_is_left_alone(self, house):
        house.note("new")
        assert house.shift.sweep(timedelta(seconds=60)) == 0

    def test_what_failed_is_not_tried_for_ever(self, house):
        house.ledger.mark(house.note("a"), IndexState.FAILED, "ValueError: no")
        assert house.shift.sweep(timedelta()) == 0

    def test_without_a_queue_it_is_put_off(self, house, valkey):
        house.note("lost")
        valkey.terminate()
        with pytest.raises(DiaryUnavailable):
            house.shift.sweep(timedelta())


def test_an_index_that_was_lost_is_filled_again(house, until, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(work, "SWEEP_EVERY_S", 0.2)
    house.hire()
    entries = [house.accept(f"number {number}") for number in range(10)]
    with house.at_work():
        until(house.all_indexed)
        for entry in entries:
            house.index.delete(entry.owner, entry.id)
        until(lambda: house.index.count() == 10)
        until(house.all_indexed)


def test_a_sweep_that_fails_is_not_the_last(house, until, monkeypatch: pytest.MonkeyPatch, caplog):
    monkeypatch.setattr(work, "SWEEP_EVERY_S", 0.2)
    house.hire()
    failures = iter([RuntimeError("what is this?")])

    def mend() -> int:
        for failure in failures:
            raise failure
        return 0

    monkeypatch.setattr(house.scribe, "mend", mend)
    with house.at_work():
        until(lambda: "sweep failed" in caplog.text)
        entry = house.note("never queued")
        monkeypatch.setattr(work, "LOST_AFTER", AT_ONCE)
        until(lambda: house.state(entry) == IndexState.INDEXED)


def test_a_valkey_that_ends_and_starts_again_loses_no_entry(house, valkey, until):
    house.hire(FakeEmbedder(pause_s=0.02))
    with house.at_work():
        for number in range(30):
            house.accept(f"before {number}")
        until(lambda: house.index.count() >= 3)
        valkey.terminate()
        for number in range(10):
            house.accept(f"meanwhile {number}")
        time.sleep(1)
        valkey.start()
        for number in range(10):
            house.accept(f"after {number}")
        house.shift.sweep(AT_ONCE)
        until(house.all_indexed)
    assert house.index.count() == 50


def test_a_valkey_that_ends_in_the_middle_of_a_job_leaves_no_thread_behind(house, valkey, until):
    threads = set(threading.enumerate())
    embedder = WaitingEmbedder()
    house.hire(embedder)
    with house.at_work():
        entry = house.accept("a")
        until(embedder.has_begun.is_set)
        valkey.terminate()
        embedder.may_end.set()
        until(lambda: house.state(entry) == IndexState.INDEXED)
        time.sleep(0.5)  # long enough for the worker to give up its connection
        valkey.start()
        late = house.accept("b")
        until(lambda: house.state(late) == IndexState.INDEXED)
    assert {thread for thread in threading.enumerate() if thread.is_alive()} <= threads
