"""2,000 entries while everything around them is killed: nothing lost, nothing doubled, everything found.

    make test-faults

Over the real HTTP API, worker and Valkey and with the real embedder, for some five minutes on two cores.
While entries are handed in, and a few edited and removed, the worker is killed -9 twenty times at random
moments, the queue is killed twice and comes back empty, and the index is away for 30 seconds.
"""

import json
import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from redis import Redis
from stage import ROOT, Stage, staged, until

from services.api_keys import LOCAL as OWNER
from services.diary.embedding.embedder import DEFAULT_MODEL
from services.diary.entry import IndexState
from services.diary.index.qdrant.index import QdrantIndex
from services.diary.index.verification import verify
from services.diary.job_queue import JobQueue
from services.diary.ledger.ledger import Ledger
from services.diary.ledger.paging import EntryFilter

pytestmark = pytest.mark.faults
ENTRIES = 2000
SENT_TWICE = 100
DIMENSION = 384  # of the default embedder
EDITED, REMOVED = 60, 40
WORKER_KILLS = 20
QUEUE_KILLS = 2
INDEX_AWAY_S = 30
HANDED_IN_WITHIN_S = 150  # as fast as the worker could do it without any trouble, it would be over too soon
WORDS = re.findall(r"[a-z]{4,}", (ROOT / "data/samples/diary.jsonl").read_text(encoding="utf-8").lower())


@dataclass
class Story:
    """What happened, to be printed."""

    seed: int
    accepted: dict[int, str] = field(default_factory=dict)  # number → the entry's id
    replays: int = 0
    worker_kills: int = 0
    with_work_in_hand: int = 0
    queue_kills: int = 0
    index_away_s: float = 0.0


@pytest.fixture
def story() -> Iterator[Story]:
    story = Story(seed=random.SystemRandom().randrange(10**6))
    yield story
    print(f"\nseed {story.seed}: {len(story.accepted)} accepted, {story.replays} sent twice, worker killed")
    print(f"{story.worker_kills} times ({story.with_work_in_hand} with a job in hand), queue killed")
    print(f"{story.queue_kills} times, index away for {story.index_away_s:.0f} s")


@pytest.fixture
def texts(story: Story) -> list[str]:
    """Each its own; every tenth is long enough for several pieces."""
    chance = random.Random(story.seed)
    words = sorted(set(WORDS))
    return [
        f"Entry {number}. {' '.join(chance.choices(words, k=300 if number % 10 == 0 else 20))}."
        for number in range(ENTRIES)
    ]


def test_no_entry_is_lost_or_duplicated_whatever_is_killed(tmp_path: Path, story: Story, texts: list[str]):
    chance = random.Random(story.seed + 1)
    with staged(tmp_path) as stage, ThreadPoolExecutor(4) as fate:
        troubles = [
            fate.submit(kill_the_worker, stage, random.Random(story.seed + 2), story),
            fate.submit(kill_the_queue, stage, story),
            fate.submit(take_the_index_away, stage, random.Random(story.seed + 3), story),
        ]
        hand_in(stage, texts, chance, story)
        changed, removed = change_some(stage, texts, chance, story)
        for trouble in troubles:
            trouble.result()
        with Ledger(stage.ledger_url) as ledger:
            until(lambda: is_settled(ledger), 180, stage.worker)
            expected = {story.accepted[n]: text for n, text in enumerate(changed) if n not in removed}
            check_the_ledger(ledger, story, expected)
            check_the_index(stage, ledger, expected)
        check_that_everything_is_found(stage, expected)
    assert (story.worker_kills, story.queue_kills) == (WORKER_KILLS, QUEUE_KILLS)


# --- what is handed in -----------------------------------------------------------------------------------


def hand_in(stage: Stage, texts: list[str], chance: random.Random, story: Story) -> None:
    """All entries over HTTP, some of them twice with one Idempotency-Key: at once, or some time later."""
    twice = set(chance.sample(range(ENTRIES), SENT_TWICE))
    began = time.monotonic()
    with httpx.Client(base_url=stage.url, timeout=30) as client, ThreadPoolExecutor(2) as pair:
        again = []
        for number, text in enumerate(texts):
            time.sleep(max(0.0, began + number * HANDED_IN_WITHIN_S / ENTRIES - time.monotonic()))
            if number in twice and number % 2:
                first, second = pair.map(lambda _, n=number, t=text: post(client, n, t), range(2))
                assert first == second
                story.replays += 1
                story.accepted[number] = first["id"]
                continue
            story.accepted[number] = post(client, number, text)["id"]
            if number in twice:
                again.append(number)
        for number in again:
            assert post(client, number, texts[number])["id"] == story.accepted[number]
            story.replays += 1


def post(client: httpx.Client, number: int, text: str) -> dict[str, object]:
    """One entry, which has to be accepted whatever is away."""
    answer = client.post(
        "/v1/diary/entries",
        json={"text": text, "date": f"2025-{number % 12 + 1:02}-{number % 28 + 1:02}"},
        headers={"Idempotency-Key": f"key-{number}"},
    )
    assert answer.status_code == 202, answer.text
    entry: dict[str, object] = answer.json()
    return entry


def change_some(
    stage: Stage, texts: list[str], chance: random.Random, story: Story
) -> tuple[list[str], set[int]]:
    """Edit some entries and remove others; returns all texts as they are then, and who is gone."""
    chosen = chance.sample(range(ENTRIES), EDITED + REMOVED)
    changed, removed = list(texts), set(chosen[EDITED:])
    with httpx.Client(base_url=stage.url, timeout=30) as client:
        for number in chosen[:EDITED]:
            changed[number] = f"Changed {number}. {' '.join(chance.choices(WORDS, k=15))}."
            answer = client.put(f"/v1/diary/entries/{story.accepted[number]}", json={"text": changed[number]})
            assert answer.status_code == 202, answer.text
        for number in removed:
            answer = client.delete(f"/v1/diary/entries/{story.accepted[number]}")
            assert answer.status_code == 202, answer.text
    return changed, removed


# --- what goes wrong -------------------------------------------------------------------------------------


def kill_the_worker(stage: Stage, chance: random.Random, story: Story) -> None:
    """With -9, at random moments: while it loads, in the middle of a batch, while it has nothing to do."""
    queue = JobQueue(Redis(unix_socket_path=str(stage.folder / "valkey.sock")))
    for _ in range(WORKER_KILLS):
        time.sleep(chance.uniform(1, 14))
        stage.worker.kill()
        story.worker_kills += 1
        story.with_work_in_hand += bool(queue.started_ids())
        stage.worker.start()


def kill_the_queue(stage: Stage, story: Story) -> None:
    """With -9; it keeps nothing on disk, so all jobs are gone when it is back."""
    for _ in range(QUEUE_KILLS):
        time.sleep(HANDED_IN_WITHIN_S / (QUEUE_KILLS + 1))
        stage.valkey.kill()
        time.sleep(3)
        stage.valkey.start()
        story.queue_kills += 1


def take_the_index_away(stage: Stage, chance: random.Random, story: Story) -> None:
    """Once, in the middle of it all."""
    time.sleep(chance.uniform(20, HANDED_IN_WITHIN_S - INDEX_AWAY_S))
    stage.index.kill()
    began = time.monotonic()
    time.sleep(INDEX_AWAY_S)
    stage.index.start()
    story.index_away_s = time.monotonic() - began


# --- what must hold --------------------------------------------------------------------------------------


def is_settled(ledger: Ledger) -> bool:
    return not ledger.for_owner(OWNER).with_state(IndexState.QUEUED, 1).entries


def check_the_ledger(ledger: Ledger, story: Story, expected: dict[str, str]) -> None:
    """What was accepted is there to the letter, and nothing else."""
    assert len(set(story.accepted.values())) == ENTRIES
    assert story.replays == SENT_TWICE
    assert {entry.id: entry.text for entry in ledger.for_owner(OWNER).iter_entries(EntryFilter())} == expected
    assert len(list(ledger.iter_current())) == ENTRIES
    assert ledger.for_owner(OWNER).with_state(IndexState.FAILED, 10).entries == []


def check_the_index(stage: Stage, ledger: Ledger, expected: dict[str, str]) -> None:
    """Every entry once, in its last version, and no difference to the ledger."""
    index = QdrantIndex(stage.index_url, stage.index_key, DEFAULT_MODEL, DIMENSION)
    indexed = Counter(version.entry_id for version in index.versions())
    assert indexed == Counter(expected.keys())
    assert list(verify(ledger, index)) == []
    index.close()


def check_that_everything_is_found(stage: Stage, expected: dict[str, str]) -> None:
    """By its own beginning, over HTTP."""
    with httpx.Client(base_url=stage.url, timeout=30) as client:
        for entry_id, text in expected.items():
            query = {"query": " ".join(text.split()[:12]), "top_k": 3}
            answer = client.post("/v1/diary/search", json=query)
            assert answer.status_code == 200, answer.text
            ids = [hit["id"] for hit in answer.json()["data"]]
            assert entry_id in ids, f"{json.dumps(text[:80])} was not found"
