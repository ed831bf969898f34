"""Validation of vLLM's answers, and its errors, part by part; all together in test_faulty_server.py."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from voice import CHAT, HELLO, data_of, error_of

from services.errors import ModelFaulty, ModelTimeout, ModelUnavailable, RateLimited, UpstreamError
from services.orchestrator.vllm.errors import error_of_response, without_internals
from services.orchestrator.vllm.event_reader import read_events
from services.orchestrator.vllm.validation import decode, encode, expected_choices, normalize_choices

STREAM = (
    b"\xef\xbb\xbfdata: 1\n\n: a comment\n\nid: 7\ndata: two\ndata:  lines\n\n\n\n"
    b"event: named\ndata:3\n\nevent: empty\n\n<html>\n\ndata\n\ndata: cut"
)
EVENTS = [(b"", b"1"), (b"", b"two\n lines"), (b"named", b"3"), (b"", b"")]


async def read(pieces: list[bytes], max_bytes: int = 1000) -> list[tuple[bytes, bytes]]:
    async def sent():
        for piece in pieces:
            yield piece

    return [event async for event in read_events(sent(), max_bytes)]


@given(st.data(), st.sampled_from([b"\n", b"\r\n", b"\r"]))
async def test_events_are_the_same_however_lines_end_and_wherever_the_network_cuts(data, line_end: bytes):
    sent = STREAM.replace(b"\n", line_end)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=12)))
    pieces = [sent[start:end] for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True)]
    assert await read(pieces) == EVENTS


async def test_an_event_without_end_is_not_kept_for_ever():
    with pytest.raises(ModelFaulty, match="larger than 1000 bytes"):
        await read([b"data: " + b"x" * 400] * 4)


@pytest.mark.parametrize("data", [b"NaN", b"[" * 300 + b"]" * 300, b'"\\ud800"', b'"\xff"', b"", b"{} {}"])
def test_what_is_no_json_is_a_faulty_answer(data: bytes):
    with pytest.raises(ModelFaulty):
        decode(data)


def test_a_number_that_is_none_is_not_written():
    with pytest.raises(ModelFaulty):
        encode(decode(b'{"a": 1e400}'))


@pytest.mark.parametrize(
    ("told", "shown"),
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
def test_a_message_for_clients_names_nothing_of_what_lies_within(told: str, shown: str):
    assert without_internals(told, "vllm:8000") == shown


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, UpstreamError), (404, UpstreamError), (422, UpstreamError),
        (401, ModelUnavailable), (403, ModelUnavailable), (429, RateLimited),
        (500, ModelFaulty), (502, ModelFaulty), (503, ModelUnavailable), (504, ModelTimeout),
    ],
)  # fmt: skip
def test_a_status_of_vllms_has_a_meaning_of_its_own(status: int, kind: type):
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
def test_so_many_choices_are_asked_for(body: dict, number: int):
    assert expected_choices(body) == number


@pytest.mark.parametrize("reason", ["stop", "length", None])
def test_openais_reasons_pass(reason: str | None):
    choices = [{"index": 0, "finish_reason": reason}]
    assert not normalize_choices(choices, 1)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_reason_that_openai_does_not_know_is_a_stop_and_fields_of_vllms_pass(client, model, stream):
    model.finish_reason, model.more = "repetition", {"system_fingerprint": "vllm", "kv": None}
    answer = await client.post(CHAT, json={**HELLO, "stream": stream})
    last = data_of(answer.text)[-1] if stream else answer.json()
    assert last["choices"][0]["finish_reason"] == "stop"
    assert (last["system_fingerprint"], last["kv"]) == ("vllm", None)


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_that_vllm_broke_off_is_an_error(client, model, stream):
    model.finish_reason = "abort"
    answer = await client.post(CHAT, json={**HELLO, "stream": stream})
    error = data_of(answer.text)[-1]["error"] if stream else error_of(answer, 502)
    assert error["code"] == "model_faulty"


@pytest.mark.parametrize("told", [{"nope": 1}, [1], {"tokens": "abc"}, {"tokens": [1.5]}, {"data": {}}])
async def test_odd_answers_to_adas_own_questions_are_no_500(client, voice, model, told):
    await voice.write("A stray dog. I called him Postscript.")
    model.told = told
    answer = await client.post(CHAT, json=HELLO)
    assert answer.status_code == 200, answer.text
    ready = await client.get("/readyz")
    assert ready.status_code == 503
    assert "127.0.0.1" not in ready.text
