"""One vLLM server over HTTP: its answers whole or in pieces, and every failure under a name.

aiohttp and not httpx: under load httpx's own connection pool cost 4 to 10 times as much, and httpx over
aiohttp's transport still twice as much (docs/measurements/voice.md).
"""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import aiohttp
from aiohttp import ClientResponse, ClientSession, ClientTimeout, TCPConnector
from yarl import URL

from services.errors import ModelRefused, ModelUnavailable
from services.orchestrator.engine.breaker import Breaker
from services.orchestrator.engine.deadlines import Deadlines
from services.orchestrator.engine.gate import Gate
from services.orchestrator.seeing.metrics import Metrics
from services.orchestrator.seeing.request_id import request_id
from services.orchestrator.seeing.tracing import outgoing_headers, span

TOKENIZE, MODELS = "/tokenize", "/v1/models"
CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
TRIES = 3  # to send a request; only what can't have reached vLLM's model is sent again
PAUSE_S = 0.05  # before the second try, and twice that before the third
END_S = 0.1  # behind the last event nothing is to come
KEPT_IDLE_S = 4.0  # vLLM closes an idle connection after 5 s; who writes into it then gets no answer
Json = dict[str, object]


class Engine:
    """A client of one vLLM server. Every call raises ModelUnavailable or ModelRefused."""

    def __init__(
        self, session: ClientSession, url: str, deadlines: Deadlines, gate: Gate, metrics: Metrics
    ) -> None:
        self._session = session
        self._url = url.rstrip("/")
        self._urls = {
            path: URL(self._url + path) for path in (CHAT, COMPLETIONS, RESPONSES, TOKENIZE, MODELS)
        }
        self._deadlines = deadlines
        self._metrics = metrics
        self.gate = gate
        self.breaker = Breaker()

    async def complete(self, body: Json) -> Json:
        """One whole chat completion."""
        return await self.whole(CHAT, body)

    async def whole(self, path: str, body: Json) -> Json:
        """A whole answer. Raises TooMuch too."""
        async with self._place(), self._sent("POST", path, body, self._deadlines.whole_s) as (response, _):
            return _object(await response.read())

    @asynccontextmanager
    async def stream(self, path: str, body: Json) -> AsyncIterator[AsyncIterator[bytes]]:
        """The bytes of a streamed answer as they come; leaving the context ends the generation.

        Raises TooMuch too; what goes wrong before the first byte is raised on entering.
        """
        async with (
            self._place(),
            self._sent("POST", path, body, self._deadlines.first_s) as (response, clock),
        ):
            yield self._pieces(response, clock)
            with suppress(TimeoutError):  # read to its end, the connection can be used again
                async with asyncio.timeout(END_S):
                    await response.read()

    async def tokenize(self, body: Json) -> list[int]:
        """Token ids of a prompt or of messages under vLLM's template."""
        tokens = (await self._asked("POST", TOKENIZE, body))["tokens"]
        assert isinstance(tokens, list)
        return tokens

    async def models(self) -> list[Json]:
        """The models that vLLM serves now."""
        models = (await self._asked("GET", MODELS))["data"]
        assert isinstance(models, list)
        return models

    async def _asked(self, method: str, path: str, body: Json | None = None) -> Json:
        """A question that costs vLLM nothing: it needs no place, and shows when vLLM is back."""
        async with self._sent(method, path, body, self._deadlines.connect_s) as (response, _):
            answer = _object(await response.read())
        self.breaker.succeeded()
        return answer

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        if pause := self.breaker.pause_s():
            raise ModelUnavailable(f"{self.breaker.reason} (it is tried again in {pause:.0f} s)", pause)
        asked_at = time.monotonic()
        async with self.gate.place():
            begun_at = time.monotonic()
            self._metrics.queue_wait.observe(begun_at - asked_at)
            try:
                with span("upstream"):
                    yield
                self.breaker.succeeded()
            except ModelUnavailable as error:
                self.breaker.failed(str(error))
                raise
            finally:
                self._metrics.upstream.observe(time.monotonic() - begun_at)

    @asynccontextmanager
    async def _sent(
        self, method: str, path: str, body: Json | None, wait_s: float
    ) -> AsyncIterator[tuple[ClientResponse, asyncio.Timeout]]:
        data = None if body is None else json.dumps(body, ensure_ascii=False).encode()
        with self._named_failures():
            async with asyncio.timeout(wait_s) as clock:
                response = await self._first_answer(method, path, data)
                try:
                    if response.status >= 400:
                        raise _refusal(response.status, await response.read())
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
                return await self._session.request(method, self._urls[path], data=data, headers=headers)
            except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
                if tried == TRIES:
                    raise ModelUnavailable(
                        f"the model server at {self._url} can't be reached: it may still be loading; "
                        "see /readyz, or start it with `python -m services.model`"
                    ) from error
            await asyncio.sleep(PAUSE_S * tried)
        raise AssertionError("the last try returns or raises")

    async def _pieces(self, response: ClientResponse, clock: asyncio.Timeout) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        end = loop.time() + self._deadlines.whole_s
        while piece := await response.content.readany():
            clock.reschedule(end)  # a slow reader is no silence of vLLM's
            yield piece
            clock.reschedule(min(end, loop.time() + self._deadlines.silence_s))

    @contextmanager
    def _named_failures(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            raise ModelUnavailable(f"the model server at {self._url} did not answer in time") from error
        except aiohttp.ClientError as error:
            raise ModelUnavailable(
                f"the model server at {self._url} ended in the middle of its answer: ask again"
            ) from error


@asynccontextmanager
async def open_engine(url: str, deadlines: Deadlines, gate: Gate, metrics: Metrics) -> AsyncIterator[Engine]:
    """An Engine for the vLLM at `url`; the gate alone bounds its connections."""
    timeout = ClientTimeout(total=None, sock_connect=deadlines.connect_s)
    connector = TCPConnector(limit=0, keepalive_timeout=KEPT_IDLE_S)
    async with ClientSession(
        connector=connector,
        timeout=timeout,
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent"),
    ) as session:
        yield Engine(session, url, deadlines, gate, metrics)


def _object(answer: bytes) -> Json:
    try:
        found = json.loads(answer)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ModelUnavailable("the model server's answer is no JSON object: is MODEL_URL a vLLM?")
    return found


def _refusal(status: int, answer: bytes) -> ModelRefused | ModelUnavailable:
    try:
        body = json.loads(answer)
    except ValueError:
        body = None
    if not isinstance(body, dict) or not isinstance(body.get("error"), dict):
        return ModelUnavailable(f"the model server answered {status} and no reason")
    return ModelRefused(status, body)
