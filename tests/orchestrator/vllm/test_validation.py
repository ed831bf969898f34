"""Validation of vLLM's answers, and its errors, part by part; all together in test_faulty_server.py."""

import json
from collections.abc import Callable

import pytest
from api import CHAT, HELLO, data_of, error_of
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from services.errors import ModelFaulty, ModelTimeout, ModelUnavailable, RateLimited, UpstreamError
from services.orchestrator.vllm.errors import error_of_response, without_internals
from services.orchestrator.vllm.event_reader import read_events
from services.orchestrator.vllm.validation import (
    ChatChunk,
    decode,
    encode,
    expected_choices,
    normalize_choices,
    parse,
    validate,
)

STREAM = (
    b"\xef\xbb\xbfdata: 1\n\n: a comment\n\nid: 7\ndata: two\ndata:  lines\n\n\n\n"
    b"event: named\ndata:3\n\nevent: empty\n\n<html>\n\ndata\n\ndata: cut"
)
EVENTS = [(b"", b"1"), (b"", b"two\n lines"), (b"named", b"3"), (b"", b"")]


async def read(pieces: list[bytes], max_bytes: int = 1000) -> list[tuple[bytes, bytes]]:
    async def stream():
        for piece in pieces:
            yield piece

    return [event async for event in read_events(stream(), max_bytes)]


@given(st.data(), st.sampled_from([b"\n", b"\r\n", b"\r"]))
async def test_events_are_the_same_however_lines_end_and_wherever_the_network_cuts(data, line_end: bytes):
    stream = STREAM.replace(b"\n", line_end)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert await read(pieces) == EVENTS


async def test_an_endless_event_is_rejected():
    with pytest.raises(ModelFaulty, match="larger than 1000 bytes"):
        await read([b"data: " + b"x" * 400] * 4)


@pytest.mark.parametrize("data", [b"NaN", b"[" * 300 + b"]" * 300, b'"\\ud800"', b'"\xff"', b"", b"{} {}"])
def test_invalid_json_is_a_faulty_answer(data: bytes):
    with pytest.raises(ModelFaulty):
        decode(data)


EVENT = b'{"id":"c","choices":[{"index":0,"delta":{"content":"w"},"finish_reason":null}],"x":%b}'
VALUES = [
    b"1", b"1.5", b"-0", b"1e400", b"123456789012345678901234567890", b'"\\u0041"', b'{"a":1,"a":2}',
    b"[" * 190 + b"]" * 190, b"[" * 300 + b"]" * 300,
    b"NaN", b"-Infinity", b"01", b'"\\ud800"', b'"\xff"', b'"\x01"', b"", b"1}{",
]  # fmt: skip
EVENTS_OF_A_CHAT = [
    *(EVENT % value for value in VALUES),
    b"[]", b"null", b" {} ", b'{"choices":[]} ', b"\xef\xbb\xbf{}",
    b'{"choices":[],"choices":[{"index":0,"delta":{}}]}', b'{"choices":[{"index":true,"delta":{}}]}',
    b'{"choices":[{"index":0.0,"delta":{}}]}', b'{"choices":[{"index":9007199254740992,"delta":{}}]}',
    b'{"choices":[{"index":0,"delta":{"content":1}}]}',
]  # fmt: skip


@pytest.mark.parametrize("data", EVENTS_OF_A_CHAT)
def test_one_pass_decodes_and_validates_like_two(data: bytes):
    schema = TypeAdapter(ChatChunk)
    assert outcome(lambda: parse(schema, data, "vllm:8000")) == outcome(
        lambda: validate(schema, decode(data))
    )


def outcome(call: Callable[[], object]) -> object:
    try:
        return call()
    except ModelFaulty as error:
        return str(error)


@pytest.mark.parametrize("choices", ["", ',"choices":[]', ',"choices":[{"index":0,"delta":{}}]'])
def test_an_error_in_an_event_comes_before_everything_else(choices: str):
    data = f'{{"error":{{"message":"no","code":400}}{choices}}}'.encode()
    with pytest.raises(UpstreamError):
        parse(TypeAdapter(ChatChunk), data, "vllm:8000")


def test_infinity_is_not_encoded():
    with pytest.raises(ModelFaulty):
        encode(decode(b'{"a": 1e400}'))


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("cannot connect to vllm:8000", "cannot connect to (address)"),
        ("see http://10.0.0.7:8000/v1/chat, please", "see (address) please"),
        ("peer 10.0.0.7:443 and [::1]:80 closed", "peer (address) and (address) closed"),
        ("lost worker-3.cluster.internal:29500", "lost (address)"),
        ("ValueError: top_p must be in (0, 1], got 2.0.", "top_p must be in (0, 1], got 2.0."),
        ("vllm.exceptions.VLLMValidationError: no", "no"),
        ('Traceback (most recent call last):\n  File "/x.py", line 1', ""),
        (
            "1 validation error:\n  {'loc': ('body', 'n')}\n\n  File \"/x.py\", line 1, in y\n    POST /z",
            "1 validation error:\n  {'loc': ('body', 'n')}",
        ),
        ("max_tokens: 99 is too large, at 12:30", "max_tokens: 99 is too large, at 12:30"),
    ],
)
def test_a_message_for_clients_has_no_internals(message: str, expected: str):
    assert without_internals(message, "vllm:8000") == expected


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, UpstreamError), (404, UpstreamError), (422, UpstreamError),
        (401, ModelUnavailable), (403, ModelUnavailable), (429, RateLimited),
        (500, ModelFaulty), (502, ModelFaulty), (503, ModelUnavailable), (504, ModelTimeout),
    ],
)  # fmt: skip
def test_each_status_of_vllm_has_its_error(status: int, kind: type):
    content = json.dumps({"error": {"message": "no", "type": "X", "param": "n", "code": 5}}).encode()
    error = error_of_response(status, content, "vllm:8000")
    assert type(error) is kind
    if isinstance(error, UpstreamError):
        expected = {"message": "no", "type": "invalid_request_error", "param": "n", "code": None}
        assert error.body == {"error": expected}


@pytest.mark.parametrize(
    ("body", "number"),
    [
        ({}, 1),
        ({"n": 3}, 3),
        ({"prompt": "a", "n": 2}, 2),
        ({"prompt": [1, 2, 3]}, 1),
        ({"prompt": ["a", "b"], "n": 2}, 4),
        ({"prompt": [[1], [2], [3]]}, 3),
        ({"prompt": [], "n": None}, 1),
    ],
)
def test_the_number_of_requested_choices(body: dict, number: int):
    assert expected_choices(body) == number


@pytest.mark.parametrize("reason", ["stop", "length", None])
def test_finish_reasons_of_openai_are_not_changed(reason: str | None):
    choices = [{"index": 0, "finish_reason": reason}]
    assert not normalize_choices(choices, 1)


@pytest.mark.parametrize("stream", [True, False])
async def test_an_unknown_finish_reason_becomes_stop_and_fields_of_vllm_are_passed_on(client, model, stream):
    model.finish_reason, model.extra_fields = "repetition", {"system_fingerprint": "vllm", "kv": None}
    answer = await client.post(CHAT, json={**HELLO, "stream": stream})
    last = data_of(answer.text)[-1] if stream else answer.json()
    assert last["choices"][0]["finish_reason"] == "stop"
    assert (last["system_fingerprint"], last["kv"]) == ("vllm", None)


@pytest.mark.parametrize("stream", [True, False])
async def test_an_aborted_answer_is_an_error(client, model, stream):
    model.finish_reason = "abort"
    answer = await client.post(CHAT, json={**HELLO, "stream": stream})
    error = data_of(answer.text)[-1]["error"] if stream else error_of(answer, 502)
    assert error["code"] == "model_faulty"


@pytest.mark.parametrize(
    "vllm_answer", [{"nope": 1}, [1], {"tokens": "abc"}, {"tokens": [1.5]}, {"data": {}}]
)
async def test_invalid_answers_to_adas_own_requests_are_no_500(client, api, model, vllm_answer):
    await api.write("A stray dog. I called him Postscript.")
    model.query_answer = vllm_answer
    answer = await client.post(CHAT, json=HELLO)
    assert answer.status_code == 200, answer.text
    ready = await client.get("/readyz")
    assert ready.status_code == 503
    assert "127.0.0.1" not in ready.text
