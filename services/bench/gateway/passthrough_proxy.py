"""A gateway that does nothing but pass on, over httpx: what the aims were set beside.

python -m services.bench.gateway.passthrough_proxy PORT UPSTREAM_URL
"""

import sys
from collections.abc import AsyncIterator

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route


def create_app(upstream: str) -> Starlette:
    """Passes /v1/chat/completions on to `upstream`."""
    client = httpx.AsyncClient(
        base_url=upstream, timeout=60, trust_env=False, limits=httpx.Limits(max_connections=None)
    )

    async def chat(request: Request) -> Response:
        asked = client.build_request("POST", "/v1/chat/completions", content=await request.body())
        answer = await client.send(asked, stream=True)
        if answer.headers["content-type"] == "application/json":
            return Response(await answer.aread(), media_type="application/json")

        async def pieces() -> AsyncIterator[bytes]:
            async for piece in answer.aiter_raw():
                yield piece
            await answer.aclose()

        return StreamingResponse(pieces(), media_type="text/event-stream")

    return Starlette(routes=[Route("/v1/chat/completions", chat, methods=["POST"])])


if __name__ == "__main__":
    uvicorn.run(create_app(sys.argv[2]), port=int(sys.argv[1]), log_level="warning", access_log=False)
