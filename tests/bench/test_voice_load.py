"""The bench's clients against its stub: whole, streamed, lost and mixed up are told apart."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator

import pytest

from services.bench.gateway import starlette_stub, stub
from services.bench.gateway.__main__ import quantiles
from services.bench.gateway.load_client import Client, LoadStats
from services.bench.gateway.servers import pinned, running_process
from services.bench.server_process import free_port


@pytest.fixture
async def client(port: int, monkeypatch) -> AsyncIterator[Client]:
    monkeypatch.setattr(stub, "GAP_S", 0.001)
    server = asyncio.create_task(stub.serve(port))
    client = Client(port, "none", "one")
    for _ in range(100):
        try:
            await client.connect()
            break
        except OSError:
            await asyncio.sleep(0.01)
    yield client
    client.close()
    server.cancel()
    await asyncio.gather(server, return_exceptions=True)


async def test_every_answer_is_counted_once(client: Client):
    tally = LoadStats()
    await client.whole(tally)
    first_ms = await client.streamed(tally)
    assert (tally.answered, tally.lost, tally.mixed_up) == (2, 0, 0)
    assert first_ms > 0


async def test_somebody_elses_answer_is_seen(client: Client, monkeypatch):
    monkeypatch.setattr(stub, "_marker", lambda body: "marker-two-1")
    tally = LoadStats()
    await client.whole(tally)
    await client.streamed(tally)
    assert (tally.answered, tally.mixed_up) == (0, 2)


async def test_an_error_and_a_stream_that_is_cut_are_lost(client: Client, monkeypatch):
    tally = LoadStats()
    monkeypatch.setattr(stub, "_JSON", stub._JSON.replace(b"200", b"503"))
    await client.whole(tally)
    monkeypatch.setattr(stub, "_usage", lambda: b"0\r\n\r\n")
    monkeypatch.setattr(stub, "event", lambda marker, finish: b"")
    await client.streamed(tally)
    assert (tally.answered, tally.lost) == (0, 2)


def test_quantiles_are_of_milliseconds():
    assert quantiles([float(number) for number in range(1, 102)]) == {"p50_ms": 51.0, "p95_ms": 96.9}


def ordinary_stub(port: int) -> list[str]:
    return [sys.executable, "-m", "services.bench.gateway.starlette_stub", str(port)]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core")
def test_servers_have_a_core_each_and_who_started_them_has_all(port: int):
    mine, other = os.sched_getaffinity(0), free_port()
    with (
        pinned(0, running_process(ordinary_stub(port), port)) as first,
        pinned(1, running_process(ordinary_stub(other), other)) as second,
    ):
        affinities = [os.sched_getaffinity(process.pid) for process in (first, second)]
        assert affinities == [{core} for core in sorted(mine)[:2]]
        assert os.sched_getaffinity(0) == mine


async def test_ordinary_clients_count_what_an_ordinary_stub_tells(port: int):
    tally = LoadStats()
    with running_process(ordinary_stub(port), port):
        async with starlette_stub.client(port, "none") as client:
            first_ms = await starlette_stub.stream_concurrently(client, 3, tally)
    assert (tally.answered, tally.lost, tally.mixed_up) == (3, 0, 0)
    assert min(first_ms) >= 1000 * stub.GAP_S
