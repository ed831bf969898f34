"""Measures what Ada costs in front of vLLM, compared with no gateway, a bare proxy and LiteLLM, in one run.

    python -m services.bench.gateway [--file DIARY.jsonl] [--litellm PATH] [--quick] [--out FILE]

The upstream is a stub of fixed speed. Clients and stub share one core, the gateway has another (Linux). With
`--file`, JSON Lines of {"date", "text"}, streams that recall from that diary are measured too.
"""

import argparse
import asyncio
import gc
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import uvloop

from services.bench.gateway import starlette_stub
from services.bench.gateway.load_client import QUESTION, Client, LoadStats
from services.bench.gateway.servers import (
    CLIENTS_CORE,
    ada,
    on_all_cores,
    on_core,
    passthrough_proxy,
    proxy,
    resident_mb,
    stub,
)
from services.bench.ingest import import_diary, questions
from services.bench.server_process import AllInOneServer, free_port

Report = dict[str, Any]
CONCURRENT, CONNECTIONS, ENDURED = 50, 32, 1000  # streams that start together, clients, open streams
PAUSE_S = 0.3  # between two rounds


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="make bench-voice", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--file", type=Path, help='a diary, JSON Lines of {"date", "text"}')
    parser.add_argument("--litellm", type=Path, default=shutil.which("litellm"), help="its executable")
    parser.add_argument("--quick", action="store_true", help="a tenth of the requests")
    parser.add_argument("--out", type=Path, default=Path("outputs/bench/voice.json"))
    options = parser.parse_args()
    gc.freeze()  # the garbage collector skips what is loaded by now
    with tempfile.TemporaryDirectory(prefix="ada-bench-") as folder:
        report = measure(Path(folder), options.file, options.litellm, 10 if options.quick else 1)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"written to {options.out}")
    return 0


def measure(folder: Path, diary: Path | None, litellm: Path | None, divisor: int) -> Report:
    """The whole measurement, printed row by row."""
    report: Report = {"cores": 2, "together": CONCURRENT}
    with stub() as upstream:
        report["direct"] = _print_row("direct", run(upstream, "none", divisor))
        with ada(folder, upstream) as (server, port, key):
            report["ada"] = _print_row("ada", run(port, key, divisor), report["direct"])
            report["endurance"] = _print_row("endurance", endure(server, port, key, divisor))
            if diary:
                report["diary"] = _print_row(
                    "diary", measure_recall(server, upstream, port, key, diary, divisor)
                )
        with passthrough_proxy(upstream) as port:
            report["bare httpx"] = _print_row("bare httpx", run(port, "none", divisor), report["direct"])
        if litellm:
            report["litellm"] = _print_row(
                "litellm", through_litellm(litellm, folder, upstream, divisor), report["direct"]
            )
    report["ordinary"] = measure_with_starlette(folder / "ordinary", divisor)
    return report


def measure_with_starlette(folder: Path, divisor: int) -> Report:
    """Streams that start together, with a model server and clients on common libraries."""
    folder.mkdir()
    report: Report = {}
    with stub("starlette_stub") as upstream:
        report["direct"] = _print_row("ordinary direct", _starlette_run(upstream, "none", divisor))
        with ada(folder, upstream) as (_, port, key):
            report["ada"] = _print_row("ordinary ada", _starlette_run(port, key, divisor), report["direct"])
        with passthrough_proxy(upstream) as port:
            report["bare httpx"] = _print_row(
                "ordinary httpx", _starlette_run(port, "none", divisor), report["direct"]
            )
    return report


def _starlette_run(port: int, key: str, divisor: int) -> Report:
    async def rounds() -> list[float]:
        async with starlette_stub.client(port, key) as client:
            return await _rounds(
                divisor, lambda stats: starlette_stub.stream_concurrently(client, CONCURRENT, stats)
            )

    with on_core(CLIENTS_CORE):
        return quantiles(uvloop.run(rounds()))


def _print_row(name: str, row: Report, direct: Report | None = None) -> Report:
    """Print a row, with its difference to no gateway."""
    if direct:
        for quantile in ("p50_ms", "p95_ms"):
            row[f"added_{quantile}"] = round(row[quantile] - direct[quantile], 1)
    print(f"{name:>15}  " + "  ".join(f"{field} {value}" for field, value in row.items()), flush=True)
    return row


def run(port: int, key: str, divisor: int) -> Report:
    """Streams that start together, then as many other requests as possible."""
    with on_core(CLIENTS_CORE):
        first = uvloop.run(_stream_together(port, key, divisor))
        rate = uvloop.run(_rate(port, key, max(2.0, 10.0 / divisor)))
    return {**quantiles(first), "rounds": _number_of_rounds(divisor), "requests_per_s": round(rate)}


async def _stream_together(port: int, key: str, divisor: int) -> list[float]:
    clients = await _connected(port, key, CONCURRENT)
    return await _rounds(
        divisor, lambda stats: asyncio.gather(*(client.streamed(stats) for client in clients))
    )


def _number_of_rounds(divisor: int) -> int:
    return max(4, 24 // divisor)


async def _rounds(divisor: int, stream: Callable[[LoadStats], Awaitable[list[float]]]) -> list[float]:
    """The times of all rounds except the first, which warms up."""
    stats, first = LoadStats(), []
    for number in range(_number_of_rounds(divisor)):
        times = await stream(stats)
        first += times if number else []
        await asyncio.sleep(PAUSE_S)
    _check(stats)
    return first


async def _rate(port: int, key: str, seconds: float) -> float:
    stats, start = LoadStats(), time.perf_counter()
    clients = await _connected(port, key, CONNECTIONS)

    async def send(client: Client) -> None:
        while time.perf_counter() - start < seconds:
            await client.whole(stats)

    await asyncio.gather(*map(send, clients))
    _check(stats)
    return stats.answered / (time.perf_counter() - start)


def endure(server: AllInOneServer, port: int, key: str, divisor: int) -> Report:
    """Many open streams, then many requests: counts lost and mixed-up answers and the growth of memory."""
    pid = server.processes["ada"].pid
    with on_core(CLIENTS_CORE):
        streams = uvloop.run(_hold_streams(port, key, ENDURED))
        uvloop.run(_mixed_requests(port, key, 2000))
        before = resident_mb(pid)
        mixed = uvloop.run(_mixed_requests(port, key, 50_000 // divisor))
    after = resident_mb(pid)
    return {
        "streams_held": streams.answered,
        "requests": mixed.answered,
        "lost": streams.lost + mixed.lost,
        "mixed_up": streams.mixed_up + mixed.mixed_up,
        "memory_mb": round(after),
        "memory_grew_percent": round(100 * (after / before - 1), 1),
    }


async def _hold_streams(port: int, key: str, number: int) -> LoadStats:
    stats = LoadStats()
    clients = await _connected(port, key, number)
    await asyncio.gather(*(client.streamed(stats) for client in clients))
    for client in clients:
        client.close()
    return stats


async def _mixed_requests(port: int, key: str, number: int) -> LoadStats:
    """Nine requests without streaming for each stream."""
    stats = LoadStats()
    clients = await _connected(port, key, CONNECTIONS)
    remaining = iter(range(number))

    async def send(client: Client) -> None:
        for index in remaining:
            await (client.whole(stats) if index % 10 else client.streamed(stats))

    await asyncio.gather(*map(send, clients))
    for client in clients:
        client.close()
    return stats


def measure_recall(
    server: AllInOneServer, upstream: int, port: int, key: str, file: Path, divisor: int
) -> Report:
    """Streams that recall, one after the other and together, compared with the model alone."""
    with on_all_cores(server.processes["ada"].pid):  # on one core, two threads of PyTorch wait for each other
        imported = import_diary(server, file, {"Authorization": f"Bearer {key}"})
    texts = [str(json.loads(line).get("text", "")) for line in file.read_text(encoding="utf-8").splitlines()]
    requests = questions(texts)[: 200 // divisor]
    with on_core(CLIENTS_CORE):
        direct = quantiles(uvloop.run(_one_by_one(upstream, "none", [QUESTION] * len(requests))))
        through = quantiles(uvloop.run(_one_by_one(port, key, requests)))
        together = quantiles(uvloop.run(_recall_together(port, key, requests)))
    added = {f"added_{name}": round(through[name] - direct[name], 1) for name in through}
    return {"entries": imported["accepted"], **added, **{f"50_together_{n}": v for n, v in together.items()}}


async def _one_by_one(port: int, key: str, texts: Sequence[str]) -> list[float]:
    stats = LoadStats()
    client = Client(port, key, "reader", {})
    await client.connect()
    return [await client.streamed(stats, question) for question in texts][10:]


async def _recall_together(port: int, key: str, texts: Sequence[str]) -> list[float]:
    stats = LoadStats()
    clients = await _connected(port, key, CONCURRENT, {})
    return await asyncio.gather(
        *(client.streamed(stats, text) for client, text in zip(clients, texts, strict=False))
    )


def through_litellm(executable: Path, folder: Path, upstream: int, divisor: int) -> Report:
    """LiteLLM's proxy with one worker, a master key and no database."""
    port, key = free_port(), "sk-bench-" + "0123456789abcdef" * 2
    config = folder / "litellm.yaml"
    model = {"model": "openai/ada", "api_base": f"http://127.0.0.1:{upstream}/v1", "api_key": "none"}
    config.write_text(json.dumps({"model_list": [{"model_name": "ada", "litellm_params": model}]}))
    command = [str(executable), "--config", str(config), "--port", str(port), "--num_workers", "1"]
    with proxy(command, port, LITELLM_MASTER_KEY=key):
        return run(port, key, max(divisor, 4))


async def _connected(port: int, key: str, number: int, ada: Report | None = None) -> list[Client]:
    clients = [Client(port, key, str(n), ada) for n in range(number)]
    for client in clients:
        await client.connect()
    return clients


def quantiles(times: Sequence[float]) -> dict[str, float]:
    """Median and 95th percentile, in ms."""
    percentiles = statistics.quantiles(times, n=100)
    return {"p50_ms": round(percentiles[49], 1), "p95_ms": round(percentiles[94], 1)}


def _check(stats: LoadStats) -> None:
    if stats.lost or stats.mixed_up:
        print(f"              {stats.lost} answers were lost, {stats.mixed_up} mixed up", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
