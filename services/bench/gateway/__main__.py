"""What Ada costs in front of vLLM, beside going there directly, a bare proxy and LiteLLM, all in one run.

    python -m services.bench.gateway [--file DIARY.jsonl] [--litellm PATH] [--quick] [--out FILE]

The upstream is a stub of fixed speed. Clients and stub share one core, the gateway has another (Linux). With
`--file`, a JSON Lines of {"date", "text"}, streams that recall from that diary are measured too.
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
    bare,
    on_all_cores,
    on_core,
    proxy,
    resident_mb,
    stub,
)
from services.bench.ingest import questions, taken_in
from services.bench.server_process import AllInOneServer, free_port

Report = dict[str, Any]
TOGETHER, CONNECTIONS, HELD = 50, 32, 1000
PAUSE_S = 0.3  # between two rounds


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="make bench-voice", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--file", type=Path, help='a diary, JSON Lines of {"date", "text"}')
    parser.add_argument("--litellm", type=Path, default=shutil.which("litellm"), help="its executable")
    parser.add_argument("--quick", action="store_true", help="a tenth of the requests")
    parser.add_argument("--out", type=Path, default=Path("outputs/bench/voice.json"))
    options = parser.parse_args()
    gc.freeze()  # what is loaded by now is not looked through in the middle of a measurement
    with tempfile.TemporaryDirectory(prefix="ada-bench-") as folder:
        report = measured(Path(folder), options.file, options.litellm, 10 if options.quick else 1)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"written to {options.out}")
    return 0


def measured(folder: Path, diary: Path | None, litellm: Path | None, less: int) -> Report:
    """The whole measurement, told row by row."""
    report: Report = {"cores": 2, "together": TOGETHER}
    with stub() as upstream:
        report["direct"] = told("direct", run(upstream, "none", less))
        with ada(folder, upstream) as (server, port, key):
            report["ada"] = told("ada", run(port, key, less), report["direct"])
            report["endurance"] = told("endurance", endured(server, port, key, less))
            if diary:
                report["diary"] = told("diary", recalled(server, upstream, port, key, diary, less))
        with bare(upstream) as port:
            report["bare httpx"] = told("bare httpx", run(port, "none", less), report["direct"])
        if litellm:
            report["litellm"] = told(
                "litellm", through_litellm(litellm, folder, upstream, less), report["direct"]
            )
    report["ordinary"] = ordinarily(folder / "ordinary", less)
    return report


def ordinarily(folder: Path, less: int) -> Report:
    """Streams that start together, with a model server and clients as others have them."""
    folder.mkdir()
    report: Report = {}
    with stub("starlette_stub") as upstream:
        report["direct"] = told("ordinary direct", _ordinary_run(upstream, "none", less))
        with ada(folder, upstream) as (_, port, key):
            report["ada"] = told("ordinary ada", _ordinary_run(port, key, less), report["direct"])
        with bare(upstream) as port:
            report["bare httpx"] = told("ordinary httpx", _ordinary_run(port, "none", less), report["direct"])
    return report


def _ordinary_run(port: int, key: str, less: int) -> Report:
    async def rounds() -> list[float]:
        async with starlette_stub.client(port, key) as client:
            return await _rounds(less, lambda tally: starlette_stub.together(client, TOGETHER, tally))

    with on_core(CLIENTS_CORE):
        return quantiles(uvloop.run(rounds()))


def told(name: str, row: Report, direct: Report | None = None) -> Report:
    """Print a row, with what it adds to going there directly."""
    if direct:
        for quantile in ("p50_ms", "p95_ms"):
            row[f"added_{quantile}"] = round(row[quantile] - direct[quantile], 1)
    print(f"{name:>15}  " + "  ".join(f"{field} {value}" for field, value in row.items()), flush=True)
    return row


def run(port: int, key: str, less: int) -> Report:
    """Streams that start together, then as many whole answers as can be had."""
    with on_core(CLIENTS_CORE):
        first = uvloop.run(_together(port, key, less))
        rate = uvloop.run(_rate(port, key, max(2.0, 10.0 / less)))
    return {**quantiles(first), "rounds": _number_of_rounds(less), "requests_per_s": round(rate)}


async def _together(port: int, key: str, less: int) -> list[float]:
    clients = await _connected(port, key, TOGETHER)
    return await _rounds(less, lambda tally: asyncio.gather(*(one.streamed(tally) for one in clients)))


def _number_of_rounds(less: int) -> int:
    return max(4, 24 // less)


async def _rounds(less: int, together: Callable[[LoadStats], Awaitable[list[float]]]) -> list[float]:
    """The times of all rounds but the first, which warms up."""
    tally, first = LoadStats(), []
    for number in range(_number_of_rounds(less)):
        times = await together(tally)
        first += times if number else []
        await asyncio.sleep(PAUSE_S)
    _check(tally)
    return first


async def _rate(port: int, key: str, seconds: float) -> float:
    tally, began = LoadStats(), time.perf_counter()
    clients = await _connected(port, key, CONNECTIONS)

    async def ask(client: Client) -> None:
        while time.perf_counter() - began < seconds:
            await client.whole(tally)

    await asyncio.gather(*map(ask, clients))
    _check(tally)
    return tally.answered / (time.perf_counter() - began)


def endured(server: AllInOneServer, port: int, key: str, less: int) -> Report:
    """Many streams at once, and many requests: nothing lost, nothing mixed up, no memory that grows."""
    pid = server.processes["ada"].pid
    with on_core(CLIENTS_CORE):
        held = uvloop.run(_held(port, key, HELD))
        uvloop.run(_many(port, key, 2000))
        before = resident_mb(pid)
        many = uvloop.run(_many(port, key, 50_000 // less))
    after = resident_mb(pid)
    return {
        "streams_held": held.answered,
        "requests": many.answered,
        "lost": held.lost + many.lost,
        "mixed_up": held.mixed_up + many.mixed_up,
        "memory_mb": round(after),
        "memory_grew_percent": round(100 * (after / before - 1), 1),
    }


async def _held(port: int, key: str, number: int) -> LoadStats:
    tally = LoadStats()
    clients = await _connected(port, key, number)
    await asyncio.gather(*(client.streamed(tally) for client in clients))
    for client in clients:
        client.close()
    return tally


async def _many(port: int, key: str, number: int) -> LoadStats:
    """Nine whole answers for each stream."""
    tally = LoadStats()
    clients = await _connected(port, key, CONNECTIONS)
    left = iter(range(number))

    async def ask(client: Client) -> None:
        for turn in left:
            await (client.whole(tally) if turn % 10 else client.streamed(tally))

    await asyncio.gather(*map(ask, clients))
    for client in clients:
        client.close()
    return tally


def recalled(server: AllInOneServer, upstream: int, port: int, key: str, file: Path, less: int) -> Report:
    """Streams that recall, one after the other and together, beside going to the model directly."""
    with on_all_cores(server.processes["ada"].pid):  # on one core, two threads of PyTorch wait for each other
        kept = taken_in(server, file, {"Authorization": f"Bearer {key}"})
    texts = [str(json.loads(line).get("text", "")) for line in file.read_text(encoding="utf-8").splitlines()]
    asked = questions(texts)[: 200 // less]
    with on_core(CLIENTS_CORE):
        direct = quantiles(uvloop.run(_one_by_one(upstream, "none", [QUESTION] * len(asked))))
        through = quantiles(uvloop.run(_one_by_one(port, key, asked)))
        together = quantiles(uvloop.run(_recalling_together(port, key, asked)))
    added = {f"added_{name}": round(through[name] - direct[name], 1) for name in through}
    return {"entries": kept["accepted"], **added, **{f"50_together_{n}": v for n, v in together.items()}}


async def _one_by_one(port: int, key: str, asked: Sequence[str]) -> list[float]:
    tally = LoadStats()
    client = Client(port, key, "reader", {})
    await client.connect()
    return [await client.streamed(tally, question) for question in asked][10:]


async def _recalling_together(port: int, key: str, asked: Sequence[str]) -> list[float]:
    tally = LoadStats()
    clients = await _connected(port, key, TOGETHER, {})
    return await asyncio.gather(
        *(one.streamed(tally, text) for one, text in zip(clients, asked, strict=False))
    )


def through_litellm(executable: Path, folder: Path, upstream: int, less: int) -> Report:
    """LiteLLM's proxy with one worker, a master key and no database."""
    port, key = free_port(), "sk-bench-" + "0123456789abcdef" * 2
    config = folder / "litellm.yaml"
    model = {"model": "openai/ada", "api_base": f"http://127.0.0.1:{upstream}/v1", "api_key": "none"}
    config.write_text(json.dumps({"model_list": [{"model_name": "ada", "litellm_params": model}]}))
    command = [str(executable), "--config", str(config), "--port", str(port), "--num_workers", "1"]
    with proxy(command, port, LITELLM_MASTER_KEY=key):
        return run(port, key, max(less, 4))


async def _connected(port: int, key: str, number: int, ada: Report | None = None) -> list[Client]:
    clients = [Client(port, key, str(n), ada) for n in range(number)]
    for client in clients:
        await client.connect()
    return clients


def quantiles(times: Sequence[float]) -> dict[str, float]:
    """Median and 95th percentile, in ms."""
    hundredths = statistics.quantiles(times, n=100)
    return {"p50_ms": round(hundredths[49], 1), "p95_ms": round(hundredths[94], 1)}


def _check(tally: LoadStats) -> None:
    if tally.lost or tally.mixed_up:
        print(f"              {tally.lost} answers were lost, {tally.mixed_up} mixed up", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
