"""The same measurement with common libraries: a stub on Starlette and uvicorn, and clients on aiohttp.

    python -m services.bench.gateway.starlette_stub PORT

The bare stub and client (stub.py, load_client.py) are so fast that 50 requests arrive within a millisecond,
and each waits for all before it. These requests start as far apart as those of any program.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator

import aiohttp
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from services.bench.gateway.load_client import CONTENT, DONE, PATH, QUESTION, LoadStats
from services.bench.gateway.stub import CHUNKS, GAP_S, MODELS, event


async def _chat(request: Request) -> StreamingResponse:
    body = await request.json()
    marker = body["messages"][-1]["content"].split()[-1]

    async def events() -> AsyncIterator[bytes]:
        chunk, last = event(marker, None), event(marker, "stop") + b"data: [DONE]\n\n"
        for number in range(CHUNKS):
            await asyncio.sleep(GAP_S)
            yield chunk if number < CHUNKS - 1 else last

    return StreamingResponse(events(), media_type="text/event-stream")


async def _models(_request: Request) -> JSONResponse:
    return JSONResponse(MODELS)


def client(port: int, key: str) -> aiohttp.ClientSession:
    """A client that reuses its connections, as OpenAI's does."""
    connector = aiohttp.TCPConnector(limit=0)
    headers = {"Authorization": f"Bearer {key}"}
    return aiohttp.ClientSession(f"http://127.0.0.1:{port}", connector=connector, headers=headers)


async def stream_concurrently(client: aiohttp.ClientSession, number: int, stats: LoadStats) -> list[float]:
    """Starts `number` streams together; returns the time to the first token of each in ms."""
    return await asyncio.gather(*(_streamed(client, f"marker-{index}", stats) for index in range(number)))


async def _streamed(client: aiohttp.ClientSession, marker: str, stats: LoadStats) -> float:
    start, first_ms, content = time.perf_counter(), 0.0, b""
    turn = {"role": "user", "content": f"{QUESTION} {marker}"}
    body = {"model": "ada", "messages": [turn], "stream": True, "ada": {"diary": False}}
    async with client.post(PATH, json=body) as response:
        async for piece in response.content.iter_any():
            content += piece
            if not first_ms and CONTENT in content:
                first_ms = 1000 * (time.perf_counter() - start)
    stats.count(response.status == 200 and DONE in content, content, marker)
    return first_ms


if __name__ == "__main__":
    routes = [Route(PATH, _chat, methods=["POST"]), Route("/v1/models", _models)]
    uvicorn.run(
        Starlette(routes=routes), port=int(sys.argv[1]), loop="uvloop", log_level="warning", access_log=False
    )
