"""Answers over real sockets: passed on as they come, ended with their client, drained at the end."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator

import httpx
import pytest
import uvicorn
from api import CHAT, HELLO, JSON, FakeVllm, data_of, send_raw, until

from services.orchestrator.http.body import BodyLimits
from services.orchestrator.http.protocol import ConnectionLimits

STREAM = {**HELLO, "stream": True, "ada": {"diary": False}}


@pytest.fixture
async def client(server: uvicorn.Server, port: int) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
        yield client


async def test_events_arrive_one_by_one(client, model: FakeVllm):
    model.chunk_delay_s = 0.05
    async with client.stream("POST", CHAT, json=STREAM) as answer:
        pieces = [piece async for piece in answer.aiter_raw()]
    assert len(pieces) >= len(model.chunks)


async def test_events_are_passed_on_byte_for_byte(client, model: FakeVllm):
    model.chunks = ["  zwei ", "\u20ac\u200b", "é", "."]
    async with client.stream("POST", CHAT, json=STREAM) as answer:
        raw = b"".join([piece async for piece in answer.aiter_raw()])
    expected = [
        f'data: {{"id":"c1","choices":[{{"index":0,"delta":{{"content":{json.dumps(text)}}},'
        f'"finish_reason":null}}]}}\n\n'.encode()
        for text in model.chunks[1:-1]
    ]
    assert b"".join(expected) in raw


@pytest.mark.parametrize("stream", [True, False])
async def test_a_disconnect_before_the_answer_ends_the_generation(client, model: FakeVllm, stream: bool):
    model.delay_s = 60
    request = asyncio.create_task(client.post(CHAT, json={**STREAM, "stream": stream}))
    await until(lambda: model.running)
    request.cancel()
    await until(lambda: not model.running)


async def test_a_disconnect_during_a_stream_ends_the_generation(client, server, model: FakeVllm):
    model.chunk_delay_s = 30
    async with client.stream("POST", CHAT, json=STREAM) as answer:
        await anext(answer.aiter_raw())
        assert model.running == 1
    await until(lambda: not model.running)
    assert server.config.loaded_app is not None


class TestKeepAlive:
    @pytest.fixture
    def settings(self):
        return {"STREAM_KEEP_ALIVE_S": 0.05}

    async def test_a_silent_stream_has_comments_that_clients_skip(self, client, model):
        model.released.clear()
        async with client.stream("POST", CHAT, json=STREAM) as answer:
            pieces = answer.aiter_text()
            text = await read_comments(pieces, 3)
            model.released.set()
            text += "".join([piece async for piece in pieces])
        texts = [chunk["choices"][0]["delta"]["content"] for chunk in data_of(text)]
        assert "".join(texts) == "It was Postscript."

    async def test_an_error_after_a_comment_is_an_error_event(self, client, model):
        model.released.clear()
        model.disconnect_after = 0
        async with client.stream("POST", CHAT, json=STREAM) as answer:
            assert answer.status_code == 200
            pieces = answer.aiter_text()
            text = await read_comments(pieces, 1)
            model.released.set()
            text += "".join([piece async for piece in pieces])
        assert data_of(text)[-1]["error"]["code"] == "model_unavailable"


async def read_comments(pieces: AsyncIterator[str], number: int) -> str:
    text = ""
    while text.count(": still here\n\n") < number:
        text += await anext(pieces)
    return text


class TestAClientThatNeverReads:
    @pytest.fixture
    def settings(self):
        return {"SEND_TIMEOUT_S": 1.0, "MODEL_MAX_RUNNING": 1, "MODEL_MAX_WAITING": 0}

    async def test_its_slot_at_the_model_is_released(self, client, server, port: int, model):
        model.chunks = ["x" * 100_000] * 1000
        body = json.dumps(STREAM).encode()
        with socket.create_connection(("127.0.0.1", port)) as deaf:
            deaf.sendall(
                b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n%b" % (CHAT.encode(), len(body), body)
            )
            await until(lambda: model.running)
            assert (await client.post(CHAT, json=STREAM)).status_code == 429
            await until(lambda: not model.running)
            model.chunks = ["Hello."]
            assert (await client.post(CHAT, json=STREAM)).text.endswith("data: [DONE]\n\n")

    async def test_a_slow_reader_gets_the_complete_stream(self, client, model):
        model.chunks = ["x" * 100_000] * 40
        size = 0
        async with client.stream("POST", CHAT, json=STREAM) as answer:
            async for piece in answer.aiter_raw(300_000):
                size += len(piece)
                await asyncio.sleep(0.1)  # longer than the timeout in all
        assert size > 4_000_000


def deadlines(*, first: float = 60, silence: float = 60, whole: float = 60) -> dict[str, object]:
    """Settings in which only one deadline can be missed before a test gives up."""
    return {
        "MODEL_FIRST_TOKEN_TIMEOUT_S": first,
        "MODEL_SILENCE_TIMEOUT_S": silence,
        "MODEL_WHOLE_TIMEOUT_S": whole,
    }


class TestDeadlines:
    @pytest.mark.parametrize("settings", [deadlines(first=0.2)])
    async def test_a_missing_first_token_is_a_504(self, client, model):
        model.released.clear()
        answer = await client.post(CHAT, json=STREAM)
        assert answer.status_code == 504
        assert "in time" in answer.json()["error"]["message"]
        await until(lambda: not model.running)

    @pytest.mark.parametrize("settings", [deadlines(silence=0.2)])
    async def test_silence_during_a_stream_ends_it_with_an_error(self, client, model):
        model.chunk_delay_s = 60
        answer = await client.post(CHAT, json=STREAM)
        assert data_of(answer.text)[0]["choices"][0]["delta"]["content"] == "It "
        assert data_of(answer.text)[-1]["error"]["code"] == "model_timeout"

    @pytest.mark.parametrize("settings", [deadlines(silence=0.1)])
    async def test_the_wait_for_the_first_token_is_no_silence(self, client, model):
        model.delay_s = 0.4
        assert (await client.post(CHAT, json=STREAM)).text.endswith("data: [DONE]\n\n")

    @pytest.mark.parametrize("settings", [deadlines(silence=0.2)])
    async def test_a_client_that_reads_slowly_is_no_silence(self, client, model):
        model.chunks = ["x" * 1_000_000] * 8  # more than the sockets buffer
        text = ""
        async with client.stream("POST", CHAT, json=STREAM) as answer:
            pieces = answer.aiter_text()
            text += await anext(pieces)
            await asyncio.sleep(0.5)
            text += "".join([piece async for piece in pieces])
        assert text.endswith("data: [DONE]\n\n")
        assert "error" not in data_of(text)[-1]

    @pytest.mark.parametrize("settings", [deadlines(whole=0.5)])
    async def test_a_steady_stream_is_ended_at_the_deadline_of_the_complete_answer(self, client, model):
        model.chunks, model.chunk_delay_s = ["word "] * 10_000, 0.01
        answer = await client.post(CHAT, json=STREAM)
        assert data_of(answer.text)[-1]["error"]["code"] == "model_timeout"

    @pytest.mark.parametrize("settings", [deadlines(first=0.1, silence=0.1)])
    async def test_a_non_streamed_answer_has_the_deadline_of_a_complete_one(self, client, model):
        model.delay_s = 0.4
        assert (await client.post(CHAT, json={**STREAM, "stream": False})).status_code == 200

    @pytest.mark.parametrize("settings", [deadlines(whole=0.2)])
    async def test_a_non_streamed_answer_that_takes_too_long_is_a_504(self, client, model):
        model.released.clear()
        assert (await client.post(CHAT, json={**STREAM, "stream": False})).status_code == 504


class TestRetries:
    async def test_a_request_without_a_first_byte_is_sent_again(self, client, model):
        model.aborts = 2
        answer = await client.post(CHAT, json=STREAM)
        assert answer.status_code == 200
        assert len(model.requests) == 1

    async def test_a_request_is_not_sent_again_for_ever(self, client, model):
        model.aborts = 3
        assert (await client.post(CHAT, json=STREAM)).status_code == 503
        assert not model.requests

    async def test_a_request_is_never_sent_again_after_the_first_byte(self, client, model):
        model.disconnect_after = 1
        text = (await client.post(CHAT, json=STREAM)).text
        assert "error" in data_of(text)[-1]
        assert len(model.requests) == 1


class TestABusyModel:
    @pytest.fixture
    def settings(self):
        return {"MODEL_MAX_RUNNING": 1, "MODEL_MAX_WAITING": 1}

    async def test_a_full_queue_is_a_429_with_a_time_to_retry(self, client, model):
        model.released.clear()
        requests = [asyncio.create_task(client.post(CHAT, json=STREAM)) for _ in range(3)]
        await asyncio.wait(requests, return_when=asyncio.FIRST_COMPLETED)
        model.released.set()
        answers = await asyncio.gather(*requests)
        assert sorted(answer.status_code for answer in answers) == [200, 200, 429]
        rejected = next(answer for answer in answers if answer.status_code == 429)
        assert int(rejected.headers["Retry-After"]) >= 1
        assert rejected.json()["error"]["type"] == "rate_limit_error"


class TestABrokenModel:
    async def test_it_gets_no_requests_until_readyz_has_reached_it(self, client, model):
        model.is_down = True
        for _ in range(5):
            assert (await client.post(CHAT, json=STREAM)).status_code == 503
        model.is_down = False
        rejected = await client.post(CHAT, json=STREAM)
        assert rejected.status_code == 503
        assert int(rejected.headers["Retry-After"]) >= 1
        assert not model.requests
        assert (await client.get("/readyz")).status_code == 200
        assert (await client.post(CHAT, json=STREAM)).status_code == 200


class TestALongAnswer:
    """One owner's long answers miss their deadline; the model is there for all others."""

    @pytest.fixture
    def settings(self):
        return {
            "MODEL_FIRST_TOKEN_TIMEOUT_S": 0.3,
            "MODEL_WHOLE_TIMEOUT_S": 0.3,
        }

    @pytest.mark.parametrize("stream", [True, False])
    async def test_deadlines_do_not_open_the_breaker_while_vllm_answers(self, client, model, stream: bool):
        model.released.clear()
        for _ in range(6):
            assert (await client.post(CHAT, json={**STREAM, "stream": stream})).status_code == 504
        model.released.set()
        assert (await client.post(CHAT, json=STREAM)).status_code == 200

    @pytest.mark.parametrize("settings", [{**deadlines(first=0.1), "MODEL_CONNECT_TIMEOUT_S": 0.2}])
    async def test_deadlines_open_the_breaker_when_vllm_answers_nothing(self, client, model):
        model.hangs = True
        for _ in range(5):
            assert (await client.post(CHAT, json=STREAM)).status_code == 504
        assert "Retry-After" in (await client.post(CHAT, json=STREAM)).headers

    async def test_errors_of_single_requests_do_not_open_the_breaker(self, client, model):
        model.finish_reason = "abort"
        for _ in range(6):
            assert (await client.post(CHAT, json={**STREAM, "stream": False})).status_code == 502
        model.finish_reason = "stop"
        assert (await client.post(CHAT, json={**STREAM, "stream": False})).status_code == 200


class TestShutdown:
    @pytest.fixture
    def settings(self):
        return {"DRAIN_S": 30}

    async def test_a_running_stream_is_completed_and_new_requests_are_refused(self, client, server, model):
        model.released.clear()
        stream = asyncio.create_task(client.post(CHAT, json=STREAM))
        await until(lambda: model.running)
        server.should_exit = True
        await until(lambda: not server.servers or not server.servers[0].is_serving())
        with pytest.raises(httpx.ConnectError):
            await client.post(CHAT, json=STREAM)
        model.released.set()
        assert (await stream).text.endswith("data: [DONE]\n\n")

    @pytest.mark.parametrize("settings", [{"DRAIN_S": 1}])
    async def test_a_stream_that_takes_too_long_ends_with_an_error_event(self, client, server, model):
        model.chunk_delay_s = 60
        async with client.stream("POST", CHAT, json=STREAM) as answer:
            pieces = answer.aiter_text()
            await anext(pieces)
            server.should_exit = True
            text = "".join([piece async for piece in pieces])
        assert "Ada was shut down" in data_of(text)[-1]["error"]["message"]


class TestSlowAndLarge:
    @pytest.fixture
    def settings(self):
        return {"MAX_BODY_BYTES": 10_000}

    @pytest.fixture
    def connection_limits(self):
        return ConnectionLimits(head_s=0.2)

    @pytest.fixture
    def body_limits(self):
        return BodyLimits(max_bytes=10_000, silence_s=0.2)

    @pytest.mark.parametrize("head", [b"", b"POST /v1/chat/completions HTTP/1.1\r\nHost: ada\r\nX-A"])
    async def test_a_missing_head_is_a_408(self, server, port, head: bytes):
        assert b"408 Request Timeout" in await send_raw(port, head)

    async def test_a_missing_body_is_a_408(self, server, port):
        head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        head += "Content-Length: 100\r\n\r\n{"
        answer = await send_raw(port, head.encode())
        assert b"408 Request Timeout" in answer
        assert b"ai-disclosure" in answer.lower()

    @pytest.mark.parametrize("path", [CHAT, "/v1/diary/entries", "/v1/diary/search"])
    async def test_a_body_that_is_too_large_is_a_413_with_or_without_its_length(self, client, path: str):
        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(20):
                yield b" " * 1000

        for content in (b" " * 10_001, pieces()):
            answer = await client.post(path, content=content, headers=JSON)
            assert answer.status_code == 413, answer.text
            assert "MAX_BODY_BYTES" in answer.json()["error"]["message"]
