"""/metrics: what it counts, whom it never names, and that nobody who is away holds it up."""

import asyncio
import threading
import time

from api import CHAT, ENTRIES, HELLO, Api
from prometheus_client import CONTENT_TYPE_LATEST
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis
from redis.exceptions import ConnectionError as RedisAway

from services.errors import DiaryUnavailable
from services.orchestrator.observability.metrics import Collectors


async def scraped(client) -> dict[tuple[str, ...], float]:
    """Every sample: its name and the values of its labels → its value."""
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    families = text_string_to_metric_families(answer.text)
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
        if "le" not in sample.labels
    }


async def test_each_stage_of_a_chat_is_measured(api: Api):
    await api.write("The heron was at the pond.")
    await api.client.post(CHAT, json=HELLO)
    await api.client.post(CHAT, json={**HELLO, "stream": True})
    metrics = await scraped(api.client)
    assert metrics["ada_requests_total", "POST", CHAT, "200"] == 2
    assert metrics["ada_request_seconds_count", CHAT] == 2
    assert metrics["ada_recall_seconds_count",] == 2
    assert metrics["ada_queue_wait_seconds_count",] == 2
    assert metrics["ada_upstream_seconds_count",] == 2
    assert metrics["ada_first_token_seconds_count",] == 1
    assert metrics["ada_token_gap_seconds_count",] > 0
    assert metrics["ada_tokens_total", "prompt"] > 0
    assert metrics["ada_streams",] == 0


async def test_open_streams_and_requests_at_vllm_are_counted(api: Api):
    api.model.chunk_delay_s = 0.5
    pending = asyncio.create_task(api.client.post(CHAT, json={**HELLO, "stream": True}))
    async with asyncio.timeout(5):
        while not (metrics := await scraped(api.client))["ada_streams",]:
            await asyncio.sleep(0.02)
    assert metrics["ada_running",] == 1
    await pending
    metrics = await scraped(api.client)
    assert (metrics["ada_streams",], metrics["ada_running",], metrics["ada_waiting",]) == (0, 0, 0)


async def test_labels_are_bounded_for_any_method_and_path(client):
    for number in range(20):
        await client.request(f"VERB{number}", f"/nowhere/{number}")
        await client.get(f"{ENTRIES}/entry-{number}")
    metrics = [sample for sample in await scraped(client) if sample[0] == "ada_requests_total"]
    assert sorted(metrics) == [
        ("ada_requests_total", "GET", f"{ENTRIES}/{{entry_id}}", "404"),
        ("ada_requests_total", "OTHER", "none", "404"),
    ]


async def test_the_diary_and_its_queue_are_counted(api: Api):
    for text in ("one", "two"):
        await api.client.post(ENTRIES, json={"text": text})
    metrics = await scraped(api.client)
    assert metrics["ada_diary_entries", "queued"] == 2
    assert metrics["ada_queue_jobs", "queued"] == 2
    assert metrics["ada_up", "ledger"] == metrics["ada_up", "queue"] == 1
    api.work()
    assert (await scraped(api.client))["ada_diary_entries", "indexed"] == 2


async def test_the_states_of_the_circuit_breakers_are_reported(api: Api):
    api.model.is_down = True
    for _ in range(6):
        await api.client.post(CHAT, json=HELLO)
    metrics = await scraped(api.client)
    assert (metrics["ada_breaker", "model"], metrics["ada_breaker", "diary"]) == (1, 0)


async def test_concurrent_scrapes_share_one_reading_and_are_complete(api: Api):
    await api.client.post(ENTRIES, json={"text": "one"})
    reads = []

    def read_slowly() -> dict[str, int]:
        reads.append(None)
        time.sleep(0.05)
        return api.ledger.counts()

    state = api.state
    api.override(collectors=Collectors(state.metrics, read_slowly, state.jobs.queue.counts))
    for _ in range(3):
        for metrics in await asyncio.gather(*(scraped(api.client) for _ in range(20))):
            assert metrics["ada_up", "ledger"] == metrics["ada_up", "queue"] == 1
            assert metrics["ada_diary_entries", "queued"] == 1
    assert len(reads) == 3


async def test_concurrent_readiness_probes_share_one_check(api: Api):
    answers = await asyncio.gather(*(api.client.get("/readyz") for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert len(api.model.tokenized) == 2  # the template, rendered here and there


async def test_an_unreachable_service_has_no_numbers_and_the_others_keep_theirs(api: Api, monkeypatch):
    await api.client.post(ENTRIES, json={"text": "one"})
    await scraped(api.client)

    def away(*_: object, **__: object) -> None:
        raise RedisAway("away")

    monkeypatch.setattr(Redis, "execute_command", away)
    metrics = await scraped(api.client)
    assert metrics["ada_up", "queue"] == 0
    assert not [sample for sample in metrics if sample[0] == "ada_queue_jobs"]
    assert metrics["ada_diary_entries", "queued"] == 1


async def test_a_hanging_collector_delays_no_scrape_and_occupies_one_thread(api: Api):
    pending, free = [], threading.Event()

    def hangs() -> dict[str, int]:
        pending.append(time.monotonic())
        free.wait(10)
        raise DiaryUnavailable("late")

    state = api.state
    api.override(collectors=Collectors(state.metrics, hangs, state.jobs.queue.counts, timeout_s=0.05))
    for _ in range(5):
        async with asyncio.timeout(2):
            assert (await scraped(api.client))["ada_up", "ledger"] == 0
    assert len(pending) == 1
    free.set()


async def test_metrics_name_no_owner_entry_or_request(api: Api):
    await api.write("The heron was at the pond.", id="my-entry")
    await api.client.post(CHAT, json=HELLO, headers={"X-Request-Id": "mine"})
    metrics = (await api.client.get("/metrics")).text
    assert not [word for word in ("heron", "my-entry", "local", "mine") if word in metrics]


async def test_metrics_have_the_content_type_of_prometheus(client):
    assert (await client.get("/metrics")).headers["Content-Type"] == CONTENT_TYPE_LATEST
