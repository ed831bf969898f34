"""What is broken, too large or meant for somebody else: 4xx in OpenAI's shape, on every route that reads."""

import asyncio
import json
import resource
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from api import CHAT, ENTRIES, HELLO, JSON, error_of, send_raw
from hypothesis import given
from hypothesis import strategies as st

from services.errors import InvalidRequest
from services.orchestrator.http.json_body import MAX_DEPTH, json_object

COMPLETIONS, RESPONSES = "/v1/completions", "/v1/responses"
REGRESSIONS = Path(__file__).parents[2] / "regressions"
VALUES = st.recursive(
    st.none() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=9,
)
READERS = [
    ("POST", CHAT),
    ("POST", COMPLETIONS),
    ("POST", RESPONSES),
    ("POST", ENTRIES),
    ("PUT", f"{ENTRIES}/x"),
    ("POST", "/v1/diary/search"),
    ("POST", "/v1/diary/delete"),
    ("POST", "/v1/diary/reflect"),
    ("PUT", "/v1/diary/conflicts/x"),
]
UNREADABLE = {
    "empty": (b"", None),
    "blank": (b" \n", None),
    "cut": (b'{"text": ', None),
    "a list": (b"[1, 2]", None),
    "a word": (b'"text"', None),
    "a form": (b"text=hello", None),
    "not UTF-8": (b'{"text": "caf\xe9"}', None),
    "UTF-16": ('{"text": "x"}'.encode("utf-16"), None),
    "a NUL": (b'{"text": "x"}\x00', None),
    "a field twice": (b'{"text": "x", "text": "y"}', "text"),
    "a field twice, deeper": (b'{"ada": {"top_k": 1, "top_k": 2}}', "top_k"),
    "the first half of a pair": (b'{"text": "\\ud83d"}', "text"),
    "the second half": (b'{"mood": "x\\udc36"}', "mood"),
    "half a pair as a name": (b'{"\\ud83d": 1}', "?"),
    "NaN": (b'{"top_k": NaN}', None),
    "Infinity": (b'{"top_k": -Infinity}', None),
    "ten thousand digits": (b'{"top_k": ' + b"9" * 10_000 + b"}", None),
    "a hundred thousand brackets": (b'{"text": ' + b"[" * 100_000, "text"),
    "deep": (b'{"text": ' + b"[" * 5_000 + b"]" * 5_000 + b"}", "text"),
    "deep objects": (b'{"text": ' * 3_000 + b"1" + b"}" * 3_000, "text"),
}


@pytest.mark.parametrize(("method", "path"), READERS)
async def test_an_unreadable_body_is_a_400_that_says_what_is_wrong(client, model, method: str, path: str):
    for name, (body, param) in UNREADABLE.items():
        error = error_of(await client.request(method, path, content=body, headers=JSON), 400)
        assert error["param"] == param, name
        assert error["type"] == "invalid_request_error"
        assert error["code"] == "invalid_value"
    assert not model.requests
    assert (await client.get(ENTRIES)).json()["data"] == []


@pytest.mark.parametrize(("method", "path"), READERS)
async def test_too_large_a_number_and_too_deep_a_field_are_400_by_name(client, model, method, path):
    """attack/chat_depth_967.json was a 500, and 1e400 one wherever an answer was written."""
    deep = (REGRESSIONS / "attack/chat_depth_967.json").read_bytes()
    bodies = {"zz": [deep, nested(MAX_DEPTH), nested(900)], "temperature": [], "ada": []}
    for digits in (b"1e400", b"-1E+999", b"1" + b"0" * 400 + b".0"):
        bodies["temperature"].append(b'{"temperature": ' + digits + b"}")
        bodies["ada"].append(b'{"ada": {"x": ["y", {"z": ' + digits + b"}]}}")
    for param, sent in bodies.items():
        for body in sent:
            error = error_of(await client.request(method, path, content=body, headers=JSON), 400)
            assert (error["param"], error["code"]) == (param, "invalid_value")
            assert ("100 levels" if param == "zz" else "too large") in error["message"]
    assert not model.requests
    assert (await client.get(ENTRIES)).json()["data"] == []


def nested(levels: int) -> bytes:
    return b'{"zz": ' + b"[" * levels + b"]" * levels + b"}"


def test_a_body_of_the_maximum_depth_is_accepted():
    assert json_object(nested(MAX_DEPTH - 1))["zz"]
    flat = {"parts": [{"text": "[" * 500}] * 500}
    assert json_object(json.dumps(flat).encode()) == flat


@given(VALUES)
def test_a_body_is_read_or_refused(value: object):
    try:
        parsed = json_object(json.dumps({"a": value}).encode())
    except InvalidRequest:
        return
    json.dumps(parsed, allow_nan=False, ensure_ascii=False).encode()


@pytest.mark.parametrize("number", ["NaN", "inf", "-Infinity", "1e400"])
@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/v1/diary/search", "recency"), ("/v1/diary/search", "top_k"), ("/v1/diary/delete", "dry_run"),
        (CHAT, "n"), (CHAT, "stream"),
    ],
)  # fmt: skip
async def test_a_string_with_a_non_finite_number_is_rejected(client, path: str, field: str, number: str):
    answer = await client.post(path, json={**HELLO, "query": "x", field: number})
    assert answer.status_code in (400, 422), answer.text
    assert answer.json()["error"]["param"] == field


@pytest.mark.parametrize("depth", [50, 200, 400, 600, 800, 900, 950, 990])
@pytest.mark.parametrize("path", [CHAT, COMPLETIONS, RESPONSES, ENTRIES, "/v1/diary/search"])
async def test_a_body_of_any_depth_gets_an_answer(client, path: str, depth: int):
    body = {**HELLO, "prompt": "x", "input": "x", "text": "x", "query": "x"}
    deep = json.dumps(body)[:-1].encode() + b', "metadata": ' + b"[" * depth + b"]" * depth + b"}"
    answer = await client.post(path, content=deep, headers=JSON)
    assert answer.status_code < 500, answer.text


class TestContentType:
    @pytest.mark.parametrize(("method", "path"), READERS)
    @pytest.mark.parametrize(
        "sent",
        ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x", "json", ""],
    )
    async def test_another_type_than_json_is_415_and_says_what_to_send(self, client, method, path, sent: str):
        # A page of any other site may have a browser send these without asking; no diary is written so.
        headers = {"Content-Type": sent} if sent else {}
        body = json.dumps({**HELLO, "text": "x"}).encode()
        error = error_of(await client.request(method, path, content=body, headers=headers), 415)
        assert (error["param"], error["code"]) == ("Content-Type", "unsupported_media_type")
        assert "Content-Type: application/json" in error["message"]
        assert (await client.get(ENTRIES)).json()["data"] == []

    @pytest.mark.parametrize(
        "sent",
        ["application/json", "application/json; charset=utf-8", "Application/JSON", "application/x+json"],
    )
    async def test_every_spelling_of_the_json_content_type_is_accepted(self, client, sent: str):
        headers = {"Content-Type": sent}
        assert (await client.post(CHAT, json=HELLO, headers=headers)).status_code == 200
        assert (await client.post(ENTRIES, json={"text": "x"}, headers=headers)).status_code == 202
        parsed = await client.post("/v1/diary/search", json={"query": "x"}, headers=headers)
        assert parsed.status_code == 200


class TestFields:
    @pytest.mark.parametrize(
        ("path", "fields", "param"),
        [
            (CHAT, {"messages": []}, "messages"),
            (CHAT, {"messages": "hello"}, "messages"),
            (CHAT, {"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
            (CHAT, {"messages": [{"content": "x"}]}, "messages[0].role"),
            (CHAT, {"ada": {"top_k": -1}}, "ada.top_k"),
            (CHAT, {"ada": {"top_k": 10**30}}, "ada.top_k"),
            (CHAT, {"ada": {"tpo_k": 1}}, "ada.tpo_k"),
            (CHAT, {"ada": {"as_of": "2024-02-30"}}, "ada.as_of"),
            (CHAT, {"stream": "perhaps"}, "stream"),
            (CHAT, {"max_tokens": 0}, None),  # the model server's own words
            (CHAT, {"n": 0}, "n"),
            (CHAT, {"n": 10**9, "stream": True}, "n"),
            (CHAT, {"n": "2", "stream": True}, "n"),
            (CHAT, {"n": True}, "n"),
            (COMPLETIONS, {"prompt": {"text": "x"}}, "prompt"),
            (COMPLETIONS, {"prompt": [5, -1]}, "prompt"),
            (COMPLETIONS, {"prompt": "x", "n": -3}, "n"),
            (RESPONSES, {"input": 5}, "input"),
            (RESPONSES, {"input": [{"type": "function_call"}]}, "input[0].type"),
        ],
    )
    async def test_a_bad_field_of_openais_is_400_and_named(self, client, path: str, fields: dict, param):
        answer = await client.post(path, json={**HELLO, **fields})
        assert error_of(answer, 400)["param"] == param

    @pytest.mark.parametrize("path", [CHAT, COMPLETIONS, RESPONSES])
    async def test_a_model_that_is_not_there_is_404(self, client, path: str):
        body = {**HELLO, "prompt": "x", "input": "x", "model": "gpt-4o"}
        error = error_of(await client.post(path, json=body), 404)
        assert (error["param"], error["code"]) == ("model", "model_not_found")

    async def test_a_hundred_thousand_messages_are_400(self, client, model):
        body = {"messages": [{"role": "user", "content": "x"}] * 100_000}
        for path in (CHAT, "/v1/diary/reflect"):
            answer = await client.post(path, json=body)
            assert error_of(answer, 400 if path == CHAT else 422)["param"] == "messages"
        assert not model.requests

    @pytest.mark.parametrize(
        ("path", "fields", "param"),
        [
            ("/v1/diary/search", {"query": ""}, "query"),
            ("/v1/diary/search", {"query": "x", "top_k": -1}, "top_k"),
            ("/v1/diary/search", {"query": "x", "top_k": 10**30}, "top_k"),
            ("/v1/diary/search", {"query": "x", "recency": -0.5}, "recency"),
            ("/v1/diary/search", {"query": "x", "recency": 1e308}, "recency"),
            ("/v1/diary/search", {"query": "x", "from": "the day after"}, "from"),
            ("/v1/diary/delete", {"dry_run": "perhaps"}, "dry_run"),
            ("/v1/diary/delete", {"tagg": "x"}, "tagg"),
            ("/v1/diary/reflect", {"messages": []}, "messages"),
        ],
    )
    async def test_a_bad_field_of_the_diarys_is_422_and_named(self, client, path: str, fields: dict, param):
        assert error_of(await client.post(path, json=fields), 422)["param"] == param

    @pytest.mark.parametrize("path", [ENTRIES, "/v1/jobs", "/v1/diary/conflicts"])
    @pytest.mark.parametrize("limit", ["-1", "0", "9" * 30, "9" * 5000, "x", "1.5", ""])
    async def test_a_bad_limit_is_422(self, client, path: str, limit: str):
        assert error_of(await client.get(path, params={"limit": limit}), 422)["param"] == "limit"

    @pytest.mark.parametrize("path", [ENTRIES, "/v1/jobs"])
    @pytest.mark.parametrize("cursor", ["x", "\x00", "é" * 100, "MTIz", "=", "x" * 1001])
    async def test_a_bad_cursor_is_422(self, client, path: str, cursor: str):
        assert error_of(await client.get(path, params={"cursor": cursor}), 422)["param"] == "cursor"


class TestRoutes:
    @pytest.mark.parametrize("path", ["/nowhere", "/v1/diary/nowhere", "/v1", "//"])
    async def test_an_unknown_path_is_404(self, client, path: str):
        error_of(await client.post(path, json=HELLO), 404)

    @pytest.mark.parametrize(
        ("method", "path", "allowed"),
        [
            ("GET", CHAT, "POST"),
            ("DELETE", CHAT, "POST"),
            ("OPTIONS", CHAT, "POST"),
            ("TRACE", RESPONSES, "POST"),
            ("PATCH", f"{ENTRIES}/x", "GET"),
            ("POST", "/v1/models", "GET"),
            ("OPTIONS", "/healthz", "GET"),
        ],
    )
    async def test_another_method_is_a_405_that_names_the_allowed_ones(
        self, client, method: str, path: str, allowed: str
    ):
        answer = await client.request(method, path)
        error_of(answer, 405)
        assert allowed in answer.headers["Allow"]
        assert "AI-Disclosure" in answer.headers

    async def test_head_has_a_status_and_the_disclosure(self, client):
        answer = await client.head(CHAT)
        assert answer.status_code == 405
        assert "AI-Disclosure" in answer.headers


class TestOverASocket:
    """The whole way: httptools and uvicorn have their own opinions about what is broken."""

    @pytest.fixture
    async def client(self, server, port: int) -> AsyncIterator[httpx.AsyncClient]:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            yield client

    @pytest.mark.parametrize("path", [CHAT, COMPLETIONS, RESPONSES, ENTRIES, "/v1/diary/search"])
    @pytest.mark.parametrize("declared", [True, False])
    async def test_a_hundred_megabytes_are_413_and_never_in_memory(self, client, path: str, declared: bool):
        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(100):
                yield b" " * 2**20

        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        length = {"Content-Length": str(100 * 2**20)} if declared else {}
        answer = await client.post(path, content=pieces(), headers=JSON | length)
        assert "MAX_BODY_BYTES" in error_of(answer, 413)["message"]
        grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        assert grown_mib < 40

    async def test_a_large_body_with_an_expect_header_is_refused_before_it_is_sent(self, server, port: int):
        head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        head += "Connection: close\r\nExpect: 100-continue\r\nContent-Length: 104857600\r\n\r\n"
        assert (await send_raw(port, head.encode())).startswith(b"HTTP/1.1 413 ")

    @pytest.mark.parametrize(
        "sent",
        [
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
            b"\x00" * 100 + b"\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: ada\r\nContent-Length: -5\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: ada\r\nContent-Length: x\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: ada\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
            b"POST / HTTP/1.1\r\nHost: ada\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        ],
    )
    async def test_bytes_that_are_not_http_are_a_400_in_openais_shape(self, server, port: int, sent: bytes):
        answer = await send_raw(port, sent)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 ")
        assert b"ai-disclosure" in head.lower()
        assert json.loads(body)["error"]["type"] == "invalid_request_error"

    async def test_a_head_without_an_end_is_refused(self, server, port: int):
        answer = await send_raw(port, b"GET / HTTP/1.1\r\nX-Long: " + b"a" * 70_000)
        assert answer.startswith(b"HTTP/1.1 431 ")
        assert b"ai-disclosure" in answer.lower()

    async def test_bad_requests_do_no_harm_to_the_next_one(self, client, port: int):
        await asyncio.gather(*(send_raw(port, b"nonsense\r\n\r\n") for _ in range(20)))
        assert (await client.post(CHAT, json=HELLO)).status_code == 200


def test_a_valid_body_is_decoded_exactly():
    body = '{"a": "\\ud83d\\ude00 \U0001f600 \\u0000 é", "b": [1, -0.5, 1e3, null, true], "": {}}'
    assert json_object(body.encode()) == json.loads(body)
