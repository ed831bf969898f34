"""One line a request, when it has ended; and in no line a word of a prompt or a diary."""

import asyncio
import json

import pytest
from api import CHAT, ENTRIES, HELLO, JSON, Api, FailingLimits
from redis import Redis

from services.errors import DiaryUnavailable
from services.orchestrator.app import server_config
from services.orchestrator.settings import OrchestratorSettings
from services.worker.indexer import Indexer

MARKER = "Zwergseeschwalbe"
ACCESS = "ada.access"


async def test_a_line_has_route_status_duration_bytes_and_key(client, log):
    sent = await client.get("/v1/jobs/none?status=x", headers={"X-Request-Id": "mine"})
    [line] = log.lines(ACCESS)
    fields = {name: line[name] for name in ("method", "route", "status", "bytes", "key", "end", "request_id")}
    assert fields == {
        "method": "GET", "route": "/v1/jobs/{name}", "status": 404, "bytes": len(sent.content),
        "key": "local", "end": "whole", "request_id": "mine",
    }  # fmt: skip
    assert line["duration_ms"] > 0


@pytest.mark.parametrize(
    ("method", "path", "route"),
    [
        ("GET", f"/{MARKER}", "none"),
        ("POST", CHAT, CHAT),
        ("GET", f"{ENTRIES}/x", f"{ENTRIES}/{{entry_id}}"),
        (MARKER.upper(), "/healthz", "/healthz"),
    ],
)
async def test_a_path_is_logged_as_the_template_of_its_route(client, log, method: str, path: str, route: str):
    await client.request(method, path)
    [line] = log.lines(ACCESS)
    assert line["route"] == route
    assert MARKER.upper() not in log.text.upper()


async def test_a_stream_is_logged_when_it_ends(api: Api, log):
    async with api.client.stream("POST", CHAT, json={**HELLO, "stream": True}) as answer:
        content = await answer.aread()
    [line] = log.lines(ACCESS)
    assert (line["status"], line["bytes"], line["end"]) == (200, len(content), "whole")


@pytest.mark.parametrize(("stream", "status"), [(False, 499), (True, 200)])
async def test_a_disconnected_client_is_logged(api: Api, log, stream: bool, status: int):
    api.model.chunk_delay_s, api.model.delay_s = (5, 0) if stream else (0, 5)
    body = json.dumps({**HELLO, "stream": stream}).encode()
    messages, sent = iter([{"type": "http.request", "body": body}]), []

    async def receive() -> dict:
        if message := next(messages, None):
            return message
        await asyncio.sleep(0.3)
        return {"type": "http.disconnect"}

    async def send(message: dict) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": CHAT, "query_string": b"",
            "headers": [(b"content-type", b"application/json")],
    }  # fmt: skip
    await api.client._transport.app(scope, receive, send)
    [line] = log.lines(ACCESS)
    assert (line["status"], line["end"]) == (status, "client gone")
    assert (await api.client.get("/metrics")).text.count("ada_clients_gone_total 1.0") == 1


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("POST", CHAT, "application/json"),
        ("POST", "/v1/completions", "application/json"),
        ("POST", "/v1/responses", "application/json"),
        ("POST", ENTRIES, "application/json"),
        ("PUT", f"{ENTRIES}/x", "application/json"),
        ("POST", "/v1/diary/search", "application/json"),
        ("POST", "/v1/diary/delete", "application/json"),
        ("POST", "/v1/diary/reflect", "application/json"),
        ("PUT", "/v1/diary/conflicts/x", "application/json"),
        ("POST", "/v1/diary/import", "application/x-ndjson"),
        ("POST", "/v1/diary/import", "multipart/form-data; boundary=b"),
    ],
)
async def test_a_disconnect_during_a_body_is_one_line_without_a_traceback(
    api: Api, log, method: str, path: str, kind: str
):
    form = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n{'
    messages = iter([
        {"type": "http.request", "body": form if "multipart" in kind else b"{", "more_body": True},
        {"type": "http.disconnect"},
    ])  # fmt: skip

    async def receive() -> dict:
        return next(messages)

    async def send(message: dict) -> None:
        assert message.get("status", 499) == 499

    headers = [(b"content-type", kind.encode()), (b"content-length", b"1000")]
    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": headers}
    await api.client._transport.app(scope, receive, send)
    [line] = log.lines(ACCESS)
    assert (line["status"], line["end"], line["level"]) == (499, "client gone", "INFO")
    assert '"level": "ERROR"' not in log.text
    assert "Traceback" not in log.text
    assert await api.ids() == []


async def test_a_crash_is_logged_with_its_traceback_and_request_id(api: Api, log):
    api.override(rate_limits=FailingLimits())
    await api.client.post(CHAT, json=HELLO, headers={"X-Request-Id": "mine"})
    [line] = log.lines(ACCESS)
    assert (line["status"], line["end"]) == (500, "failed")
    [crash] = log.lines("ada.orchestrator")
    assert crash["request_id"] == "mine"
    assert "ValueError" in crash["error"]


async def test_a_successful_probe_is_logged_only_at_debug(api: Api, log):
    await api.client.get("/healthz")
    api.model.is_down = True
    await api.client.get("/readyz")
    fields = [(line["route"], line["status"], line["level"]) for line in log.lines(ACCESS)]
    assert fields == [("/healthz", 200, "DEBUG"), ("/readyz", 503, "INFO")]


def test_uvicorn_has_no_logging_of_its_own(api: Api):
    config = server_config(api.client._transport.app, OrchestratorSettings())
    assert (config.log_config, config.access_log) == (None, False)


class TestNoWordIsLogged:
    """Whatever is sent holds the marker; our loggers say all they have to say."""

    @pytest.fixture(autouse=True)
    def _nothing_of_it(self, log):
        yield
        assert log.lines(ACCESS)
        assert MARKER not in log.text

    @pytest.fixture
    def settings(self) -> dict[str, object]:
        return {"REFLECT_AFTER_S": 0.01}

    async def test_nothing_of_a_chat_is_logged(self, api: Api):
        await api.write(f"A {MARKER} at the pond.")
        request = {"model": "ada", "messages": [{"role": "user", "content": f"Where was the {MARKER}?"}]}
        for stream in (False, True):
            answer = await api.client.post(CHAT, json={**request, "stream": stream})
            assert answer.status_code == 200
        assert MARKER in json.dumps(api.model.requests)
        prompt = {"model": "ada", "prompt": MARKER}
        assert (await api.client.post("/v1/completions", json=prompt)).status_code < 500
        assert (await api.client.post("/v1/responses", json={"model": "ada", "input": MARKER})).status_code

    async def test_nothing_of_the_diary_is_logged(self, api: Api):
        client, entry_id = api.client, await api.write(f"A {MARKER} at the pond.", tags=[MARKER])
        for method, path, body in (
            ("POST", "/v1/diary/search", {"query": MARKER}),
            ("PUT", f"{ENTRIES}/{entry_id}", {"text": f"Two of {MARKER}", "version": 1}),
            ("GET", f"{ENTRIES}?text={MARKER}", None),
            ("GET", "/v1/diary/export", None),
            ("GET", f"{ENTRIES}/{MARKER}", None),
            ("GET", "/v1/diary/conflicts", None),
            ("POST", "/v1/diary/reflect", {"messages": [{"role": "user", "content": MARKER}]}),
            ("DELETE", f"{ENTRIES}/{entry_id}", None),
        ):
            answer = await client.request(method, path, json=body)
            assert answer.status_code < 500, (path, answer.text)
        rows = f'{{"text": "{MARKER}"}}\n{{"text": 1, "{MARKER}": 2}}\n{MARKER}'.encode()
        sent = await client.post("/v1/diary/import", files={"file": (f"{MARKER}.jsonl", rows)})
        assert sent.status_code < 500, sent.text
        api.work()

    @pytest.mark.parametrize("path", [CHAT, ENTRIES, "/v1/diary/search", "/v1/completions", "/v1/responses"])
    @pytest.mark.parametrize("body", [f'{{"{MARKER}', f'{{"{MARKER}": 1}}', f'["{MARKER}"]', f'"{MARKER}"'])
    async def test_nothing_of_a_refused_body_is_logged(self, client, path: str, body: str):
        assert (await client.post(path, content=body, headers=JSON)).status_code in (400, 422)

    async def test_nothing_of_a_request_that_vllm_refuses_is_logged(self, api: Api):
        request = {"messages": [{"role": "user", "content": MARKER}], "model": "ada", "max_tokens": 0}
        assert (await api.client.post(CHAT, json=request)).status_code == 400
        api.model.is_down = True
        assert (await api.client.post(CHAT, json=request)).status_code == 503

    async def test_nothing_of_a_request_that_crashes_is_logged(self, api: Api):
        api.override(rate_limits=FailingLimits(MARKER))
        assert (await api.client.post(CHAT, json=HELLO)).status_code == 500

    async def test_nothing_of_an_entry_that_cannot_be_indexed_is_logged(self, api: Api, redis: Redis):
        await api.client.post(ENTRIES, json={"text": MARKER})

        class Illegible(type(api.state.embedder)):
            def embed_documents(self, texts):
                raise ValueError(texts[0])

        Indexer(api.ledger, Illegible(), api.index).write(api.ledger.due(1))
        assert api.ledger.counts()["queued"] == 1

    async def test_nothing_of_an_entry_is_logged_when_the_ledger_fails(self, api: Api, monkeypatch):
        monkeypatch.setattr(type(api.ledger), "for_owner", _unavailable)
        assert (await api.client.post(ENTRIES, json={"text": MARKER})).status_code == 503


def _unavailable(*_: object) -> None:
    raise DiaryUnavailable("the diary's ledger failed: disk I/O error")
