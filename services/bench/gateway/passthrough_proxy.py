"""A gateway that only passes requests on, over httpx: the baseline of the requirements.

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
    """An app that passes /v1/chat/completions on to `upstream`."""
    client = httpx.AsyncClient(
        base_url=upstream, timeout=60, trust_env=False, limits=httpx.Limits(max_connections=None)
    )

    async def chat(request: Request) -> Response:
        upstream_request = client.build_request("POST", "/v1/chat/completions", content=await request.body())
        response = await client.send(upstream_request, stream=True)
        if response.headers["content-type"] == "application/json":
            return Response(await response.aread(), media_type="application/json")

        async def chunks() -> AsyncIterator[bytes]:
            async for chunk in response.aiter_raw():
                yield chunk
            await response.aclose()

        return StreamingResponse(chunks(), media_type="text/event-stream")

    return Starlette(routes=[Route("/v1/chat/completions", chat, methods=["POST"])])


if __name__ == "__main__":
    uvicorn.run(create_app(sys.argv[2]), port=int(sys.argv[1]), log_level="warning", access_log=False)
