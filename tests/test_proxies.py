"""Ada's own parts reach one another directly, whatever proxies the environment names [behind_a_proxy]."""

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from services import demo
from services.bench import server_process
from services.client.ada_chat import AdaChat, InferenceConfig
from services.diary.index.qdrant.server import QdrantServer
from services.worker.reflection import CompletionClient
from trainer.synthetic.endpoint import Endpoint
from trainer.synthetic.stats import Stats

CHAT = {
    "choices": [{"finish_reason": "stop", "index": 0, "message": {"role": "assistant", "content": "Yes."}}]
}
ANSWERS = {
    "/healthz": {"status": "ok", "disclosure": "Ada is an AI persona."},
    "/readyz": {"status": "ready"},
    "/v1/models": {"object": "list", "data": [{"id": "ada", "object": "model"}]},
    "/v1/chat/completions": CHAT,
    "/": {"title": "qdrant", "version": "1.20.0"},
}


class Server(BaseHTTPRequestHandler):
    """Answers as Ada, vLLM and Qdrant do."""

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = json.dumps(ANSWERS[self.path]).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass


class Proxy(Server):
    """A proxy that reaches nothing of ours."""

    def do_GET(self) -> None:
        self.send_error(502)

    do_POST = do_GET


def serve(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def url() -> Iterator[str]:
    yield from serve(Server)


@pytest.fixture
def proxy() -> Iterator[str]:
    yield from serve(Proxy)


@pytest.fixture(autouse=True, params=["http", "socks"])
def environment(request: pytest.FixtureRequest, proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"http": ("HTTP_PROXY", "http_proxy"), "socks": ("ALL_PROXY", "all_proxy")}[request.param]
    for name in names:
        monkeypatch.setenv(name, proxy if request.param == "http" else "socks5://127.0.0.1:9")


def test_the_proxy_is_in_the_way_of_whoever_asks_the_environment(url: str):
    """Else the tests below would hold nothing."""
    try:
        assert httpx.get(f"{url}/healthz").status_code == 502
    except httpx.ConnectError:
        pass  # the SOCKS proxy refuses


def test_the_client_reaches_ada(url: str):
    with AdaChat(InferenceConfig(base_url=url)) as ada:
        assert ada.disclosure() == "Ada is an AI persona."
        assert ada._openai.models.list().data[0].id == "ada"


def test_the_worker_reaches_the_model_server(url: str):
    client = CompletionClient(url)
    assert client.complete({"model": "ada", "messages": []}) == "Yes."
    client.close()


def test_the_diary_reaches_qdrant(url: str):
    server = QdrantServer(url, "key", timeout_s=5)
    with server.translated_errors():
        assert server.client.info().version == "1.20.0"
    server.client.close()


def test_the_demo_sees_that_something_is_up_and_that_nothing_is(url: str, proxy: str):
    with pytest.raises(demo.DemoFailed, match="something answers"):
        demo._check_nobody_is_there(url)
    demo._check_nobody_is_there(f"http://127.0.0.1:{server_process.free_port()}")


def test_new_conversations_are_asked_for_at_a_server_of_this_machine(url: str):
    async def models() -> list[str]:
        async with Endpoint(f"{url}/v1", "none", Stats()) as endpoint:
            return await endpoint.models()

    assert asyncio.run(models()) == ["ada"]


def test_a_server_elsewhere_is_asked_through_the_proxy():
    async def proxies() -> set[str]:
        async with Endpoint("http://models.example/v1", "none", Stats()) as endpoint:
            return {pattern.pattern for pattern in endpoint._client._client._mounts}

    assert asyncio.run(proxies()) & {"all://", "http://"}
