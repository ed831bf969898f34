"""The client of one vLLM server: complete answers and event streams over HTTP, with named errors.

aiohttp and not httpx: under load httpx's own connection pool cost 4 to 10 times as much, and httpx over
aiohttp's transport still twice as much (docs/measurements/voice.md).
"""

import asyncio
import json
import logging
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import aiohttp
from aiohttp import ClientResponse, ClientSession, ClientTimeout, TCPConnector
from pydantic import TypeAdapter
from yarl import URL

from services.errors import ModelFaulty, ModelTimeout, ModelUnavailable
from services.orchestrator.http.json_body import Json
from services.orchestrator.observability.metrics import Metrics
from services.orchestrator.vllm import validation
from services.orchestrator.vllm.circuit_breaker import CircuitBreaker
from services.orchestrator.vllm.concurrency import ConcurrencyLimiter
from services.orchestrator.vllm.errors import translated_errors
from services.orchestrator.vllm.event_reader import SilenceTimer, read_events
from services.orchestrator.vllm.validation import DEFAULT_SIZES, SizeLimits, expected_choices
from services.tracing import outgoing_headers, request_id, span

TOKENIZE, MODELS = "/tokenize", "/v1/models"
CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
ATTEMPTS = 3  # to send a request; only a request that can't have reached vLLM's model is sent again
RETRY_PAUSE_S = 0.05  # before the second attempt, and twice that before the third
END_OF_STREAM_S = 0.1  # to wait for the end of the body after the last event
END_OF_STREAM_BYTES = 64 << 10
KEEP_ALIVE_S = 4.0  # vLLM closes an idle connection after 5 s; a request on a closed one gets no answer
DONE = b"[DONE]"
log = logging.getLogger("ada.orchestrator")
_ANSWERS: Mapping[str, TypeAdapter[Any]] = {
    CHAT: TypeAdapter(validation.Chat),
    COMPLETIONS: TypeAdapter(validation.Completion),
    RESPONSES: TypeAdapter(validation.Response),
    TOKENIZE: TypeAdapter(validation.TokenIds),
    MODELS: TypeAdapter(validation.ServedModels),
}
_EVENTS: Mapping[str, TypeAdapter[Any]] = {
    CHAT: TypeAdapter(validation.ChatChunk),
    COMPLETIONS: TypeAdapter(validation.CompletionChunk),
    RESPONSES: TypeAdapter(validation.ResponseEvent),
}


@dataclass(frozen=True)
class Deadlines:
    """Seconds to wait for a connection, a stream's first byte, each next event, and a complete answer."""

    connect_s: float = 5.0
    first_s: float = 120.0
    silence_s: float = 60.0
    whole_s: float = 900.0


class Event(NamedTuple):
    """One validated event of a streamed answer."""

    name: bytes  # empty when vLLM sent none
    data: bytes  # JSON in one line, unchanged wherever possible
    value: dict[str, Any] | None  # the decoded data; None for [DONE]


class VllmClient:
    """A client of one vLLM server. Every call raises ModelUnavailable or UpstreamError."""

    def __init__(
        self,
        session: ClientSession,
        url: str,
        deadlines: Deadlines,
        limiter: ConcurrencyLimiter,
        metrics: Metrics,
        sizes: SizeLimits = DEFAULT_SIZES,
        breaker: CircuitBreaker | None = None,
    ) -> None:
        self._session = session
        self._url = url.rstrip("/")
        self._urls = {path: URL(self._url + path) for path in _ANSWERS}
        self._address = URL(self._url).authority  # host and port, which clients must not learn
        self._deadlines = deadlines
        self._metrics = metrics
        self._sizes = sizes
        self.limiter = limiter
        self.breaker = breaker or CircuitBreaker()

    async def complete(self, path: str, body: Json) -> Json:
        """A complete answer. Raises RateLimited, too."""
        async with self._slot(), self._response("POST", path, body, self._deadlines.whole_s) as (response, _):
            data = await validation.read_body(response, self._sizes.whole)
        answer: Json = validation.parse(_ANSWERS[path], data, self._address)
        if answer.get("status") == "failed":
            raise ModelFaulty("the model server failed to process this request: try again")
        if path != RESPONSES:
            validation.normalize_choices(answer["choices"], expected_choices(body))
        return answer

    @asynccontextmanager
    async def stream(self, path: str, body: Json) -> AsyncIterator[AsyncIterator[Event]]:
        """The events of a streamed answer as they arrive; leaving the context ends the generation.

        Raises RateLimited, too. Errors before the first byte are raised on entering the context.
        """
        async with (
            self._slot(),
            self._response("POST", path, body, self._deadlines.first_s) as (response, timeout),
        ):
            if response.content_type != "text/event-stream":
                raise ModelFaulty("the model server did not stream its answer: try again")
            with SilenceTimer(timeout, self._deadlines.silence_s) as silence:
                yield self._events(response, timeout, silence, path, expected_choices(body))
            await _read_to_end(response)

    async def tokenize(self, body: Json) -> list[int]:
        """Token ids of a prompt, or of messages in vLLM's chat template."""
        tokens: list[int] = (await self._query("POST", TOKENIZE, body))["tokens"]
        return tokens

    async def models(self) -> list[Json]:
        """The models that vLLM serves now."""
        models: list[Json] = (await self._query("GET", MODELS))["data"]
        return models

    async def _query(self, method: str, path: str, body: Json | None = None) -> dict[str, Any]:
        """A request without generation. It needs no slot, and its success closes the circuit breaker."""
        async with self._response(method, path, body, self._deadlines.connect_s) as (response, _):
            data = await validation.read_body(response, self._sizes.whole)
        answer: dict[str, Any] = validation.validate(_ANSWERS[path], validation.decode(data))
        self.breaker.succeeded()
        return answer

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        if pause := self.breaker.pause_s():
            raise ModelUnavailable(f"{self.breaker.reason} (retried in {pause:.0f} s)", pause)
        try:
            async with self._measured_slot():
                yield
            self.breaker.succeeded()
        except ModelTimeout:
            await self._probe_after_timeout()
            raise
        except ModelFaulty:  # may well be caused by this request, so it must not stop others
            raise
        except ModelUnavailable as error:
            self.breaker.failed(str(error))
            raise

    @asynccontextmanager
    async def _measured_slot(self) -> AsyncIterator[None]:
        queued_at = time.monotonic()
        async with self.limiter.slot():
            started_at = time.monotonic()
            self._metrics.queue_wait.observe(started_at - queued_at)
            try:
                with span("upstream"):
                    yield
            finally:
                self._metrics.upstream.observe(time.monotonic() - started_at)

    async def _probe_after_timeout(self) -> None:
        """Count a missed deadline as a failure only if vLLM answers nothing else: the answer may be long."""
        try:
            await self._query("GET", MODELS)
        except ModelUnavailable as error:
            self.breaker.failed(str(error))

    @asynccontextmanager
    async def _response(
        self, method: str, path: str, body: Json | None, timeout_s: float
    ) -> AsyncIterator[tuple[ClientResponse, asyncio.Timeout]]:
        data = None if body is None else json.dumps(body, ensure_ascii=False).encode()
        with translated_errors(self._url):
            async with asyncio.timeout(timeout_s) as timeout:
                response = await self._send(method, path, data)
                try:
                    await validation.check_status(response, self._address)
                    yield response, timeout
                finally:
                    # Closing it before its end closes the connection, so that vLLM ends the generation.
                    response.close()

    async def _send(self, method: str, path: str, data: bytes | None) -> ClientResponse:
        """Send a request, again if the connection fails before the first byte of the answer."""
        headers = {"Content-Type": "application/json", **outgoing_headers()}
        if client_id := request_id.get():
            # vLLM keys its work by this id, and clients may send the same id twice.
            headers["X-Request-Id"] = f"{client_id}-{secrets.token_hex(4)}"
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await self._session.request(
                    method, self._urls[path], data=data, headers=headers, allow_redirects=False
                )
            except (
                aiohttp.ClientOSError,
                aiohttp.ServerDisconnectedError,
                aiohttp.ConnectionTimeoutError,
            ) as error:
                if attempt == ATTEMPTS or isinstance(error, aiohttp.ConnectionTimeoutError):
                    log.warning(
                        "the model server at %s can't be reached: %s", self._url, type(error).__name__
                    )
                    raise ModelUnavailable(
                        "the model server can't be reached: it may still be loading; "
                        "see /readyz, or start it with `python -m services.model`"
                    ) from error
            await asyncio.sleep(RETRY_PAUSE_S * attempt)
        raise AssertionError("the last attempt returns or raises")

    async def _events(
        self,
        response: ClientResponse,
        timeout: asyncio.Timeout,
        silence: SilenceTimer,
        path: str,
        choices: int,
    ) -> AsyncIterator[Event]:
        end = asyncio.get_running_loop().time() + self._deadlines.whole_s
        is_first = True
        async for name, data in read_events(self._body_pieces(response), self._sizes.whole):
            if is_first:
                timeout.reschedule(end)
                is_first = False
            silence.stop()  # a client that reads slowly is no silence of vLLM
            yield self._event(name, data, path, choices)
            silence.start()

    async def _body_pieces(self, response: ClientResponse) -> AsyncIterator[bytes]:
        remaining = self._sizes.stream
        while piece := await response.content.readany():
            remaining -= len(piece)
            if remaining < 0:
                raise ModelFaulty(f"the model server's stream is larger than {self._sizes.stream} bytes")
            yield piece

    def _event(self, name: bytes, data: bytes, path: str, choices: int) -> Event:
        if data == DONE:
            return Event(name, data, None)
        value: dict[str, Any] = validation.parse(_EVENTS[path], data, self._address)
        if path != RESPONSES and validation.normalize_choices(value["choices"], choices):
            data = validation.encode(value)
        if b"\n" in data:  # between JSON's tokens only, or decoding would have failed
            data = data.replace(b"\n", b" ")
        return Event(name, data, value)


async def _read_to_end(response: ClientResponse) -> None:
    """Read to the end of the body, so that the connection can be used again; else it is closed."""
    size = 0
    with suppress(TimeoutError, aiohttp.ClientError):
        async with asyncio.timeout(END_OF_STREAM_S):
            while size < END_OF_STREAM_BYTES and (piece := await response.content.readany()):
                size += len(piece)


@asynccontextmanager
async def open_vllm_client(
    url: str,
    deadlines: Deadlines,
    limiter: ConcurrencyLimiter,
    metrics: Metrics,
    *,
    api_key: str = "",
    sizes: SizeLimits = DEFAULT_SIZES,
    breaker: CircuitBreaker | None = None,
) -> AsyncIterator[VllmClient]:
    """A client of the vLLM server at `url`. Only the limiter bounds its connections."""
    timeout = ClientTimeout(total=None, sock_connect=deadlines.connect_s)
    connector = TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S)
    async with ClientSession(
        connector=connector,
        timeout=timeout,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Authorization": f"Bearer {api_key}"} if api_key else None,
        auto_decompress=False,  # no compression was requested, and the body may be a decompression bomb
        skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent"),
    ) as session:
        yield VllmClient(session, url, deadlines, limiter, metrics, sizes, breaker)
