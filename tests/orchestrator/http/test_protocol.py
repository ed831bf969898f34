"""One connection over a real socket: what it may have in memory, and that each request has one answer.

.venv/bin/python -m pytest tests/orchestrator/http/test_protocol.py
"""

import asyncio
import gc
import json
import logging
import re
import resource
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from api import CHAT, HELLO, error_of, send_raw, until

from services.api_keys import add_key
from services.orchestrator.http.protocol import (
    MAX_HEAD_BYTES,
    MAX_UNREAD_BYTES,
    SLICE_BYTES,
    ConnectionLimits,
    HeaderTimeoutProtocol,
)

IMPORT = "/v1/diary/import"
READ_AT_ONCE = 256 << 10  # bytes that uvloop reads
MIB = 1 << 20


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, object]:
    return {"KEYS_FILE": tmp_path / "keys.json"}


@pytest.fixture
def key(tmp_path: Path) -> str:
    return add_key(tmp_path / "keys.json", "drew", None, None, 0o600)[0]


def request(
    path: str, body: bytes = b"", *lines: str, method: str = "POST", length: int | None = None
) -> bytes:
    length_header = [f"Content-Length: {len(body) if length is None else length}"] if method == "POST" else []
    head = [
        f"{method} {path} HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json",
        *length_header,
        *lines,
    ]
    return "\r\n".join([*head, "", ""]).encode() + body


def chat(**fields: object) -> bytes:
    return request(CHAT, json.dumps({**HELLO, "ada": {"diary": False}, **fields}).encode())


def statuses(answers: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)]


def errors_logged(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def connections(server) -> Iterator[HeaderTimeoutProtocol]:
    return iter(list(server.server_state.connections))


class TestEarlyRefusals:
    async def test_attack_two_responses_an_answer_before_the_bodys_end_is_the_only_one(
        self, server, port, key
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request(IMPORT, b"", "Authorization: Bearer wrong", length=10_000_000))
        head = await reader.readuntil(b"\r\n\r\n")
        for _ in range(50):
            writer.write(b"x" * 10_000)
            await writer.drain()
        writer.write_eof()
        assert statuses(head + await reader.read()) == [401]
        writer.close()

    @pytest.mark.parametrize("sent", [b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", b"\r\n", b"{}"])
    async def test_a_body_is_never_parsed_as_a_head(self, server, port, key, sent: bytes):
        sent = (sent * MIB)[:MIB]
        refused = request(IMPORT, sent, "Authorization: Bearer wrong", length=2 * MIB)
        assert statuses(await send_raw(port, refused + b"x" * MIB + last("/healthz"))) == [401, 200]

    async def test_only_a_bounded_part_of_an_endless_body_is_read(self, server, port, key):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request(IMPORT, b"", "Authorization: Bearer wrong", length=10**9))
        assert statuses(await reader.readuntil(b"\r\n\r\n")) == [401]
        sent = 0
        with suppress(ConnectionError):
            for sent in range(200):  # noqa: B007
                writer.write(b"x" * MIB)
                await writer.drain()
        assert sent < 100
        writer.close()

    async def test_a_body_that_ends_in_time_leaves_the_connection_for_the_next_request(
        self, server, port, key
    ):
        wrong = request(CHAT, b"{" * 100_000, "Authorization: Bearer wrong")
        right = request("/v1/models", b"", f"Authorization: Bearer {key}", "Connection: close", method="GET")
        assert statuses(await send_raw(port, wrong + right))[0] == 401
        assert len(statuses(await send_raw(port, wrong + right))) == 2

    @pytest.mark.parametrize("connection_limits", [ConnectionLimits(discard_s=0.1)], ids=["impatient"])
    async def test_a_connection_with_an_endless_body_is_closed(self, server, port, key):
        refused = request(IMPORT, b"x", "Authorization: Bearer wrong", length=1000)
        assert statuses(await send_raw(port, refused)) == [401]

    async def test_a_refused_request_that_expects_100_continue_gets_one_answer(self, server, port, key):
        refused = request(IMPORT, b"", "Authorization: Bearer wrong", "Expect: 100-continue", length=1000)
        assert statuses(await send_raw(port, refused)) == [401]


class TestMemory:
    async def test_attack_turnstile_flood_what_is_sent_without_a_key_waits_in_the_socket(
        self, server, port, key
    ):
        most, pieces = 0, 0

        async def flood() -> None:
            nonlocal pieces
            while pieces < 300:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(request(IMPORT, b"", "Authorization: Bearer no", length=10**9))
                try:
                    while pieces < 300:
                        pieces += 1
                        writer.write(b"\n" * MIB)
                        await writer.drain()
                except ConnectionError:
                    pass
                writer.transport.abort()

        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        floods = [asyncio.create_task(flood()) for _ in range(10)]
        while not all(flood.done() for flood in floods):
            most = max([most, *(connection._unread_bytes for connection in connections(server))])
            assert statuses(await send_raw(port, last("/healthz"))) == [200]
        await asyncio.gather(*floods)
        assert most <= MAX_UNREAD_BYTES + READ_AT_ONCE
        assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 60

    async def test_requests_behind_a_running_one_wait_unread_and_all_are_answered(self, server, port, model):
        model.delay_s, number, most = 0.3, 3_000, [0, 0]
        pending = asyncio.create_task(
            send_raw(port, chat() + request("/healthz", method="GET") * number + last("/healthz"))
        )
        await until(lambda: model.running)
        while model.running:
            for connection in connections(server):
                most = [max(most[0], len(connection.pipeline)), max(most[1], connection._unread_bytes)]
            await asyncio.sleep(0.01)
        assert most[0] <= SLICE_BYTES // len(request("/", method="GET"))
        assert most[1] <= MAX_UNREAD_BYTES + READ_AT_ONCE
        server_answers = statuses(await pending)
        assert server_answers == [200] * (number + 2)

    async def test_a_closed_connection_leaves_nothing_behind(self, server, port):
        gc.collect()
        gc.disable()
        try:
            for _ in range(20):
                await send_raw(port, last("/healthz"))
            await until(lambda: not list(connections(server)))
            await asyncio.sleep(0)
            alive = [
                connection for connection in gc.get_objects() if isinstance(connection, HeaderTimeoutProtocol)
            ]
            assert len(alive) <= 1  # the loop may still name the last
        finally:
            gc.enable()


class TestHeadsAndTrailers:
    async def test_a_head_without_an_end_behind_a_stream_is_refused_when_the_stream_is_over(
        self, server, port, model
    ):
        model.chunk_delay_s = 0.05
        answers = await send_raw(port, chat(stream=True) + b"GET / HTTP/1.1\r\nX-Long: " + b"a" * 2 * MIB)
        assert statuses(answers) == [200, 431]
        assert answers.index(b"data: [DONE]") < answers.index(b"HTTP/1.1 431")

    async def test_nonsense_behind_a_stream_does_not_get_into_it(self, server, port, model):
        model.chunk_delay_s = 0.05
        answers = await send_raw(port, chat(stream=True) + b"nonsense\r\n\r\n")
        assert statuses(answers) == [200, 400]
        assert answers.index(b"data: [DONE]") < answers.index(b"HTTP/1.1 400")

    @pytest.mark.parametrize("trailer", [b"X-A: " + b"a" * 2 * MIB, b"X-A: a\r\n" * (MIB // 8)])
    async def test_trailers_without_an_end_are_refused(self, server, port, trailer: bytes, caplog):
        answers = await send_raw(port, chunked(b"{", trailer))
        assert statuses(answers) == [431]
        assert b"ai-disclosure" in answers
        assert errors_logged(caplog) == []

    async def test_a_trailer_is_no_header(self, server, port, model):
        body = json.dumps({**HELLO, "ada": {"diary": False}}).encode()
        answers = await send_raw(port, chunked(body, b"X-Request-Id: mine\r\n\r\n") + last("/healthz"))
        assert statuses(answers) == [200, 200]
        assert b"mine" not in answers

    @pytest.mark.parametrize("size", [MAX_HEAD_BYTES - 1000, MAX_HEAD_BYTES // 2])
    async def test_a_long_head_is_read(self, server, port, size: int):
        long = request("/healthz", b"", "X-Long: " + "a" * size, "Connection: close", method="GET")
        assert statuses(await send_raw(port, long)) == [200]


async def test_a_disconnect_ends_the_running_request_even_when_another_is_pipelined(server, port, model):
    model.delay_s = 30
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(chat() + chat())
    await until(lambda: model.running)
    writer.close()
    await until(lambda: not model.running)
    assert len(model.requests) == 1


class TestOtherProtocols:
    UPGRADE = (
        "Connection: Upgrade", "Upgrade: websocket",
        "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    )  # fmt: skip

    @pytest.mark.parametrize("path", [CHAT, "/v1/models", "/v1/realtime"])
    async def test_a_websocket_is_refused_in_words(self, server, port, caplog, path: str):
        answer = await send_raw(port, request(path, b"", *self.UPGRADE, method="GET"))
        assert statuses(answer) == [400]
        assert b"WebSockets are not supported" in answer
        assert b"ai-disclosure" in answer
        assert errors_logged(caplog) == []

    async def test_a_websocket_without_a_key_is_refused_like_any_request(self, server, port, key):
        answer = await send_raw(
            port, request("/v1/models", b"", *self.UPGRADE, "Connection: close", method="GET")
        )
        assert statuses(answer) == [401]


@pytest.mark.parametrize("path", ["/v1/models/", "/v1/diary/entries/", "/healthz/", "/docs/", "/docs/parts"])
async def test_no_redirect_names_the_host_of_a_request(client, path: str):
    answer = await client.get(path, headers={"Host": "localhost:1"})
    error_of(answer, 404)
    assert "Location" not in answer.headers


def last(path: str) -> bytes:
    """A request after which the server hangs up."""
    return request(path, b"", "Connection: close", method="GET")


def chunked(body: bytes, trailer: bytes) -> bytes:
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += "Transfer-Encoding: chunked\r\n\r\n"
    return head.encode() + b"%x\r\n%b\r\n0\r\n" % (len(body), body) + trailer
