"""vLLM as the orchestrator sees it: one HTTP client, and every failure under a name.

httpx over aiohttp's transport: its own connection pool was 4 to 10 times slower under load (measured).
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import httpx
from httpx_aiohttp import AiohttpTransport

from services.errors import ModelRefused, ModelUnavailable

COMPLETIONS = "/v1/chat/completions"
Json = dict[str, object]


class Engine:
    """A client of one vLLM server."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def complete(self, body: Json) -> Json:
        """One whole chat completion. Raises ModelUnavailable or ModelRefused."""
        return await self._post(COMPLETIONS, body)

    async def tokenize(self, body: Json) -> list[int]:
        """Token ids of a prompt or of messages under vLLM's template."""
        answer = await self._post("/tokenize", body)
        tokens = answer["tokens"]
        assert isinstance(tokens, list)
        return tokens

    async def models(self) -> list[Json]:
        """The models that vLLM serves now."""
        with _named_failures():
            answer = await self._client.get("/v1/models")
            answer.raise_for_status()
            models: list[Json] = answer.json()["data"]
            return models

    @asynccontextmanager
    async def stream(self, body: Json) -> AsyncIterator[AsyncIterator[str]]:
        """The lines of a streamed chat completion; leaving the context ends the generation.

        Raises ModelUnavailable or ModelRefused before the first line.
        """
        with _named_failures():
            async with self._client.stream("POST", COMPLETIONS, json=body) as response:
                if response.status_code >= 400:
                    await response.aread()
                    raise _refusal(response)
                yield response.aiter_lines()

    async def _post(self, path: str, body: Json) -> Json:
        with _named_failures():
            response = await self._client.post(path, json=body)
            if response.status_code >= 400:
                raise _refusal(response)
            answer: Json = response.json()
            return answer


def engine_client(url: str, connect_timeout_s: float, silence_timeout_s: float) -> httpx.AsyncClient:
    """The HTTP client for a vLLM at `url`; timeouts in seconds."""
    timeout = httpx.Timeout(silence_timeout_s, connect=connect_timeout_s)
    return httpx.AsyncClient(base_url=url, timeout=timeout, transport=AiohttpTransport())


@contextmanager
def _named_failures() -> Iterator[None]:
    try:
        yield
    except httpx.TimeoutException as error:
        raise ModelUnavailable(f"the model server at {_host(error)} did not answer in time") from error
    except httpx.HTTPError as error:
        raise ModelUnavailable(
            f"the model server at {_host(error)} can't be reached: it may still be loading; "
            "see /readyz, or start it with `python -m services.model`"
        ) from error


def _host(error: httpx.HTTPError) -> str:
    return error.request.url.netloc.decode()


def _refusal(response: httpx.Response) -> ModelRefused | ModelUnavailable:
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict) or "error" not in body:
        return ModelUnavailable(f"the model server answered {response.status_code} and no reason")
    return ModelRefused(response.status_code, body)
