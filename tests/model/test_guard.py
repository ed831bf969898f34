"""The model server's own door: a key on every route but /health, and on loopback only loopback's names."""

from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from services.model.guard import Guard
from services.model.settings import SECRETS

KEY = {"Authorization": "Bearer secret"}
PATHS = ["/v1/models", "/tokenize", "/invocations", "/metrics", "/docs", "/health/x", "/healthz", "//health"]


async def text(
    headers: dict[str, str], path: str = "/v1/models", secrets: Path = SECRETS, **environment: str
) -> httpx.Response:
    async def hello(_request) -> PlainTextResponse:
        return PlainTextResponse("hello")

    app = Starlette(routes=[Route("/{path:path}", hello, methods=["GET", "POST", "OPTIONS"])])
    guarded = Guard(app, environment, secrets)
    transport = httpx.ASGITransport(guarded)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
        return await client.request("OPTIONS" if path == "/options" else "POST", path, headers=headers)


@pytest.mark.parametrize("path", [*PATHS, "/options"])
async def test_every_route_asks_for_the_key(path: str):
    wrong = [
        {},
        {"Authorization": "secret"},
        {"Authorization": "Bearer secret2"},
        {"Authorization": "Basic secret"},
    ]
    for headers in wrong:
        refused = await text(headers, path, MODEL_API_KEY="secret")
        assert refused.status_code == 401
        assert "MODEL_API_KEY" in refused.json()["error"]["message"]
    assert (await text(KEY, path, MODEL_API_KEY="secret")).text == "hello"


async def test_health_is_open_and_without_a_key_all_is():
    assert (await text({}, "/health", MODEL_API_KEY="secret")).text == "hello"
    assert (await text({}, "/v1/models")).text == "hello"


@pytest.mark.parametrize("host", ["a-page.example", "127.0.0.1.a-page.example:8000", "", "10.0.0.1:8000"])
@pytest.mark.parametrize("listens", ["127.0.0.1", "::1", "localhost", None])
async def test_on_loopback_another_hosts_name_is_refused(host: str, listens: str | None):
    environment = {"MODEL_API_KEY": "secret"} | ({"MODEL_HOST": listens} if listens else {})
    assert (await text({**KEY, "Host": host}, **environment)).status_code == 403


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "[::1]:8000"])
async def test_loopbacks_names_are_not(host: str):
    assert (await text({**KEY, "Host": host}, MODEL_API_KEY="secret")).text == "hello"


async def test_in_a_network_of_containers_names_are_anything_and_the_key_counts():
    environment = {"MODEL_API_KEY": "secret", "MODEL_HOST": "0.0.0.0"}
    assert (await text({**KEY, "Host": "vllm:8000"}, **environment)).text == "hello"
    assert (await text({"Host": "vllm:8000"}, **environment)).status_code == 401


async def test_a_websocket_is_closed_before_it_is_open():
    sent = []

    async def send(message) -> None:
        sent.append(message)

    async def never(*_) -> None:
        raise AssertionError("it was let through")

    scope = {"type": "websocket", "path": "/v1/realtime", "headers": [(b"host", b"localhost")]}
    await Guard(never, {"MODEL_API_KEY": "secret"})(scope, never, send)
    assert [message["type"] for message in sent] == ["websocket.close"]


async def test_in_a_container_the_key_is_read_from_its_file(tmp_path: Path):
    """An environment can be read by `docker inspect` and in /proc."""
    (tmp_path / "MODEL_API_KEY").write_text("secret\n")
    assert (await text({}, secrets=tmp_path)).status_code == 401
    assert (await text(KEY, secrets=tmp_path)).text == "hello"
