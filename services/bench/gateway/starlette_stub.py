"""The same with ordinary parts: a stub on Starlette and uvicorn, as vLLM's server is, and clients on aiohttp.

    python -m services.bench.gateway.starlette_stub PORT

The raw parts (stub.py, load.py) cost so little that 50 requests arrive within a millisecond, and each waits
for all before it. These start as far apart as any program's requests do, and gateways are compared on them.
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
    asked = await request.json()
    marker = asked["messages"][-1]["content"].split()[-1]

    async def events() -> AsyncIterator[bytes]:
        chunk, last = event(marker, None), event(marker, "stop") + b"data: [DONE]\n\n"
        for number in range(CHUNKS):
            await asyncio.sleep(GAP_S)
            yield chunk if number < CHUNKS - 1 else last

    return StreamingResponse(events(), media_type="text/event-stream")


async def _models(_request: Request) -> JSONResponse:
    return JSONResponse(MODELS)


def client(port: int, key: str) -> aiohttp.ClientSession:
    """A client that keeps its connections, as OpenAI's do."""
    connector = aiohttp.TCPConnector(limit=0)
    headers = {"Authorization": f"Bearer {key}"}
    return aiohttp.ClientSession(f"http://127.0.0.1:{port}", connector=connector, headers=headers)


async def together(client: aiohttp.ClientSession, number: int, tally: LoadStats) -> list[float]:
    """Streams that a program starts together; the milliseconds of each to its first token."""
    return await asyncio.gather(*(_streamed(client, f"marker-{one}", tally) for one in range(number)))


async def _streamed(client: aiohttp.ClientSession, marker: str, tally: LoadStats) -> float:
    began, first_ms, told = time.perf_counter(), 0.0, b""
    turn = {"role": "user", "content": f"{QUESTION} {marker}"}
    asked = {"model": "ada", "messages": [turn], "stream": True, "ada": {"diary": False}}
    async with client.post(PATH, json=asked) as response:
        async for piece in response.content.iter_any():
            told += piece
            if not first_ms and CONTENT in told:
                first_ms = 1000 * (time.perf_counter() - began)
    tally.count(response.status == 200 and DONE in told, told, marker)
    return first_ms


if __name__ == "__main__":
    routes = [Route(PATH, _chat, methods=["POST"]), Route("/v1/models", _models)]
    uvicorn.run(
        Starlette(routes=routes), port=int(sys.argv[1]), loop="uvloop", log_level="warning", access_log=False
    )
