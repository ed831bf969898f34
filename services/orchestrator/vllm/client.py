"""One vLLM server over HTTP: its answers whole or as events, and every failure under a name.

aiohttp and not httpx: under load httpx's own connection pool cost 4 to 10 times as much, and httpx over
aiohttp's transport still twice as much (docs/measurements/voice.md).
"""

import asyncio
import json
import logging
import secrets
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import aiohttp
from aiohttp import ClientResponse, ClientSession, ClientTimeout, TCPConnector
from pydantic import TypeAdapter
from yarl import URL

from services.errors import ModelFaulty, ModelTimeout, ModelUnavailable
from services.orchestrator.observability.metrics import Metrics
from services.orchestrator.observability.request_id import request_id
from services.orchestrator.vllm import response_shapes as shapes
from services.orchestrator.vllm.circuit_breaker import CircuitBreaker
from services.orchestrator.vllm.concurrency import ConcurrencyLimiter
from services.orchestrator.vllm.event_reader import read_events
from services.orchestrator.vllm.response_shapes import check_choices, choices_asked, shaped
from services.orchestrator.vllm.upstream import (
    DEFAULT_SIZES,
    SizeLimits,
    check_head,
    decode,
    encode,
    event_error,
    read_whole,
)
from services.tracing import outgoing_headers, span

TOKENIZE, MODELS = "/tokenize", "/v1/models"
CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
TRIES = 3  # to send a request; only what can't have reached vLLM's model is sent again
PAUSE_S = 0.05  # before the second try, and twice that before the third
END_S = 0.1  # behind the last event nothing is to come
END_BYTES = 64 << 10
KEPT_IDLE_S = 4.0  # vLLM closes an idle connection after 5 s; who writes into it then gets no answer
DONE = b"[DONE]"
Json = dict[str, object]
log = logging.getLogger("ada.orchestrator")
_WHOLE: Mapping[str, TypeAdapter[Any]] = {
    CHAT: TypeAdapter(shapes.Chat),
    COMPLETIONS: TypeAdapter(shapes.Completion),
    RESPONSES: TypeAdapter(shapes.Response),
    TOKENIZE: TypeAdapter(shapes.Tokens),
    MODELS: TypeAdapter(shapes.Served),
}
_EVENT: Mapping[str, TypeAdapter[Any]] = {
    CHAT: TypeAdapter(shapes.ChatChunk),
    COMPLETIONS: TypeAdapter(shapes.CompletionChunk),
    RESPONSES: TypeAdapter(shapes.ResponseEvent),
}


@dataclass(frozen=True)
class Deadlines:
    """Seconds: for a connection, the first byte of a stream, each next one, and a whole answer."""

    connect_s: float = 5.0
    first_s: float = 120.0
    silence_s: float = 60.0
    whole_s: float = 900.0


class Event(NamedTuple):
    """One event of a streamed answer, read and checked."""

    name: bytes  # empty where vLLM gave none
    data: bytes  # JSON in one line, as it came where nothing had to be changed
    value: dict[str, Any] | None  # what it says; None: it is [DONE]


class VllmClient:
    """A client of one vLLM server. Every call raises ModelUnavailable or ModelRefused."""

    def __init__(
        self,
        session: ClientSession,
        url: str,
        deadlines: Deadlines,
        gate: ConcurrencyLimiter,
        metrics: Metrics,
        sizes: SizeLimits = DEFAULT_SIZES,
    ) -> None:
        self._session = session
        self._url = url.rstrip("/")
        self._urls = {
            path: URL(self._url + path) for path in (CHAT, COMPLETIONS, RESPONSES, TOKENIZE, MODELS)
        }
        self._inner = URL(self._url).authority  # host and port, which are nobody's business
        self._deadlines = deadlines
        self._metrics = metrics
        self._sizes = sizes
        self.gate = gate
        self.breaker = CircuitBreaker()

    async def complete(self, body: Json) -> Json:
        """One whole chat completion."""
        return await self.whole(CHAT, body)

    async def whole(self, path: str, body: Json) -> Json:
        """A whole answer. Raises TooMuch too."""
        async with self._place(), self._sent("POST", path, body, self._deadlines.whole_s) as (response, _):
            found = decode(await read_whole(response, self._sizes.whole))
        if error := event_error(found, self._inner):  # with the status of an answer
            raise error
        answer: Json = shaped(_WHOLE[path], found)
        if answer.get("status") == "failed":
            raise ModelFaulty("the model server failed at this request: ask again")
        if path != RESPONSES:
            check_choices(answer["choices"], choices_asked(body))  # type: ignore[arg-type]
        return answer

    @asynccontextmanager
    async def stream(self, path: str, body: Json) -> AsyncIterator[AsyncIterator[Event]]:
        """The events of a streamed answer as they come; leaving the context ends the generation.

        Raises TooMuch too; what goes wrong before the first byte is raised on entering.
        """
        async with (
            self._place(),
            self._sent("POST", path, body, self._deadlines.first_s) as (response, clock),
        ):
            if response.content_type != "text/event-stream":
                raise ModelFaulty(
                    "the model server answered with no stream where one was asked for: ask again"
                )
            yield self._events(response, clock, path, choices_asked(body))
            await _read_end(response)

    async def tokenize(self, body: Json) -> list[int]:
        """Token ids of a prompt or of messages under vLLM's template."""
        tokens: list[int] = (await self._asked("POST", TOKENIZE, body))["tokens"]
        return tokens

    async def models(self) -> list[Json]:
        """The models that vLLM serves now."""
        models: list[Json] = (await self._asked("GET", MODELS))["data"]
        return models

    async def _asked(self, method: str, path: str, body: Json | None = None) -> dict[str, Any]:
        """A question that costs vLLM nothing: it needs no place, and shows when vLLM is back."""
        async with self._sent(method, path, body, self._deadlines.connect_s) as (response, _):
            found = decode(await read_whole(response, self._sizes.whole))
        answer: dict[str, Any] = shaped(_WHOLE[path], found)
        self.breaker.succeeded()
        return answer

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        if pause := self.breaker.pause_s():
            raise ModelUnavailable(f"{self.breaker.reason} (it is tried again in {pause:.0f} s)", pause)
        try:
            async with self._counted_place():
                yield
            self.breaker.succeeded()
        except ModelTimeout:
            await self._judge_deadline()
            raise
        except ModelFaulty:  # as likely the request's own matter; others must not wait for it
            raise
        except ModelUnavailable as error:
            self.breaker.failed(str(error))
            raise

    @asynccontextmanager
    async def _counted_place(self) -> AsyncIterator[None]:
        asked_at = time.monotonic()
        async with self.gate.place():
            begun_at = time.monotonic()
            self._metrics.queue_wait.observe(begun_at - asked_at)
            try:
                with span("upstream"):
                    yield
            finally:
                self._metrics.upstream.observe(time.monotonic() - begun_at)

    async def _judge_deadline(self) -> None:
        """A long answer can miss its deadline by itself; only when vLLM answers nothing else is it vLLM's."""
        try:
            await self._asked("GET", MODELS)
        except ModelUnavailable as error:
            self.breaker.failed(str(error))

    @asynccontextmanager
    async def _sent(
        self, method: str, path: str, body: Json | None, wait_s: float
    ) -> AsyncIterator[tuple[ClientResponse, asyncio.Timeout]]:
        data = None if body is None else json.dumps(body, ensure_ascii=False).encode()
        with self._named_failures():
            async with asyncio.timeout(wait_s) as clock:
                response = await self._first_answer(method, path, data)
                try:
                    await check_head(response, self._inner)
                    yield response, clock
                finally:
                    response.close()  # before its end this cuts the connection, and vLLM ends the generation

    async def _first_answer(self, method: str, path: str, data: bytes | None) -> ClientResponse:
        """The head of an answer, before any byte of it: until here a request can be sent again."""
        headers = {"Content-Type": "application/json", **outgoing_headers()}
        if mine := request_id.get():
            # vLLM keys its work by this id, and clients may send the same one twice.
            headers["X-Request-Id"] = f"{mine}-{secrets.token_hex(4)}"
        for tried in range(1, TRIES + 1):
            try:
                return await self._session.request(
                    method, self._urls[path], data=data, headers=headers, allow_redirects=False
                )
            except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
                if tried == TRIES:
                    log.warning(
                        "the model server at %s can't be reached: %s", self._url, type(error).__name__
                    )
                    raise ModelUnavailable(
                        "the model server can't be reached: it may still be loading; "
                        "see /readyz, or start it with `python -m services.model`"
                    ) from error
            await asyncio.sleep(PAUSE_S * tried)
        raise AssertionError("the last try returns or raises")

    async def _events(
        self, response: ClientResponse, clock: asyncio.Timeout, path: str, asked: int
    ) -> AsyncIterator[Event]:
        loop = asyncio.get_running_loop()
        end = loop.time() + self._deadlines.whole_s
        async for name, data in read_events(self._pieces(response), self._sizes.whole):
            clock.reschedule(end)  # a slow reader is no silence of vLLM's
            yield self._event(name, data, path, asked)
            clock.reschedule(min(end, loop.time() + self._deadlines.silence_s))

    async def _pieces(self, response: ClientResponse) -> AsyncIterator[bytes]:
        left = self._sizes.stream
        while piece := await response.content.readany():
            left -= len(piece)
            if left < 0:
                raise ModelFaulty(f"the model server's stream is larger than {self._sizes.stream} bytes")
            yield piece

    def _event(self, name: bytes, data: bytes, path: str, asked: int) -> Event:
        if data == DONE:
            return Event(name, data, None)
        found = decode(data)
        if error := event_error(found, self._inner):
            raise error
        value: dict[str, Any] = shaped(_EVENT[path], found)
        if path != RESPONSES and check_choices(value["choices"], asked):
            data = encode(value)
        if b"\n" in data:  # between JSON's parts only, or it could not have been read
            data = data.replace(b"\n", b" ")
        return Event(name, data, value)

    @contextmanager
    def _named_failures(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            raise ModelTimeout("the model server did not answer in time: ask for less, or again") from error
        except aiohttp.ClientResponseError as error:  # no HTTP, or too large a head
            log.warning("the model server at %s: %s", self._url, type(error).__name__)
            raise ModelFaulty("the model server's answer is no HTTP that can be read: ask again") from error
        except aiohttp.ClientError as error:
            log.warning("the model server at %s: %s", self._url, type(error).__name__)
            raise ModelUnavailable("the model server ended in the middle of its answer: ask again") from error


async def _read_end(response: ClientResponse) -> None:
    """Read to its end, a connection can be used again; one that does not end is closed."""
    size = 0
    with suppress(TimeoutError, aiohttp.ClientError):
        async with asyncio.timeout(END_S):
            while size < END_BYTES and (piece := await response.content.readany()):
                size += len(piece)


@asynccontextmanager
async def open_engine(
    url: str,
    deadlines: Deadlines,
    gate: ConcurrencyLimiter,
    metrics: Metrics,
    *,
    api_key: str = "",
    sizes: SizeLimits = DEFAULT_SIZES,
) -> AsyncIterator[VllmClient]:
    """An Engine for the vLLM at `url`; the gate alone bounds its connections."""
    timeout = ClientTimeout(total=None, sock_connect=deadlines.connect_s)
    connector = TCPConnector(limit=0, keepalive_timeout=KEPT_IDLE_S)
    async with ClientSession(
        connector=connector,
        timeout=timeout,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Authorization": f"Bearer {api_key}"} if api_key else None,
        auto_decompress=False,  # what is compressed was not asked for, and may be a bomb
        skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent"),
    ) as session:
        yield VllmClient(session, url, deadlines, gate, metrics, sizes)
