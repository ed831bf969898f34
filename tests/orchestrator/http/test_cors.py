"""Pages of other origins: those that ADA_CORS_ORIGINS names may ask, and read every answer; no other may.

.venv/bin/python -m pytest tests/orchestrator/http/test_cors.py
"""

from pathlib import Path

import httpx
import pytest
from api import CHAT, ENTRIES, HELLO, JSON, FailingLimits, error_of, send_raw

from services.api_keys import add_key
from services.errors import ConfigError
from services.orchestrator.http.body import DEFAULT_LIMITS
from services.orchestrator.settings import OrchestratorSettings

PAGE, APP, OTHER = "https://chat.example", "tauri://localhost", "https://evil.example"
ALLOWED = "access-control-allow-origin"


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, object]:
    return {
        "KEYS_FILE": tmp_path / "keys.json",
        "ADA_CORS_ORIGINS": f"{PAGE}, {APP}",
    }


@pytest.fixture
def key(tmp_path: Path) -> dict[str, str]:
    return {"Authorization": f"Bearer {add_key(tmp_path / 'keys.json', 'drew', None, None, 0o600)[0]}"}


async def preflight(
    client: httpx.AsyncClient, origin: str, method: str = "POST", path: str = CHAT, **more: str
):
    preflight = {"Origin": origin, "Access-Control-Request-Method": method, **more}
    preflight.setdefault("Access-Control-Request-Headers", "authorization,content-type,x-stainless-os")
    return await client.options(path, headers=preflight)


class TestPreflights:
    """Inputs and right values: tests/regressions/cors_preflight."""

    @pytest.mark.parametrize("origin", [PAGE, APP])
    @pytest.mark.parametrize("path", [CHAT, ENTRIES, f"{ENTRIES}/x", "/v1/models", "/nowhere"])
    async def test_cors_preflight_of_an_allowed_origin_needs_no_key(self, client, key, origin, path: str):
        answer = await preflight(client, origin, path=path)
        assert answer.status_code in (200, 204)
        assert answer.headers[ALLOWED] == origin
        sent = answer.headers["access-control-allow-headers"].casefold()
        for name in ("authorization", "content-type", "idempotency-key", "x-stainless-os"):
            assert name in sent
        assert {"GET", "POST", "PUT", "DELETE"} <= set(
            answer.headers["access-control-allow-methods"].split(", ")
        )
        assert "Origin" in answer.headers["vary"]
        assert answer.headers["AI-Disclosure"]
        assert answer.headers["X-Request-Id"]
        assert "access-control-allow-credentials" not in answer.headers

    async def test_preflights_are_answered_without_keys_too(self, client):
        assert (await preflight(client, PAGE)).headers[ALLOWED] == PAGE

    @pytest.mark.parametrize(
        ("origin", "method"), [(OTHER, "POST"), ("null", "POST"), (f"{PAGE}.evil", "GET"), (PAGE, "BREW")]
    )
    async def test_another_origin_or_method_is_refused_in_openais_shape(
        self, client, key, origin, method: str
    ):
        answer = await preflight(client, origin, method)
        assert error_of(answer, 403)["code"] == "origin_not_allowed"
        assert ALLOWED not in answer.headers
        assert answer.headers["AI-Disclosure"]

    async def test_a_page_may_request_access_to_the_private_network(self, client):
        answer = await preflight(client, PAGE, **{"Access-Control-Request-Private-Network": "true"})
        assert answer.headers["access-control-allow-private-network"] == "true"

    async def test_headers_with_odd_names_are_left_out(self, client):
        answer = await preflight(
            client, PAGE, **{"Access-Control-Request-Headers": "x-a, a\x7fb, <c>,, " + "d" * 200}
        )
        assert answer.headers["access-control-allow-headers"].endswith("X-Request-Id, x-a")


class TestAnswers:
    async def test_every_kind_of_answer_can_be_read_by_the_page(self, client, key, api):
        page, right = {"Origin": PAGE}, {"Origin": PAGE, **key}
        stream = {**HELLO, "stream": True}
        answers = {
            200: await client.post(CHAT, json=HELLO, headers=right),
            -200: await client.post(CHAT, json=stream, headers=right),
            401: await client.post(CHAT, json=HELLO, headers=page),
            404: await client.get("/v1/nowhere", headers=right),
            405: await client.get(CHAT, headers=right),
            413: await client.post(CHAT, content=b" " * (DEFAULT_LIMITS.max_bytes + 1), headers=right | JSON),
            415: await client.post(CHAT, content=b"x", headers=right),
        }
        api.override(rate_limits=FailingLimits())
        answers[500] = await client.post(CHAT, json=HELLO, headers=right)
        for status, answer in answers.items():
            assert answer.status_code == abs(status)
            assert answer.headers[ALLOWED] == PAGE
            assert "Origin" in answer.headers["vary"]
            shown = answer.headers["access-control-expose-headers"]
            assert {"AI-Disclosure", "X-Request-Id", "x-ratelimit-remaining-tokens"} <= set(shown.split(", "))
            assert answer.headers["AI-Disclosure"]

    async def test_a_refusal_of_the_http_parser_can_be_read_by_the_page_too(self, server, port):
        head = f"GET / HTTP/1.1\r\nHost: localhost\r\nOrigin: {PAGE}\r\nX-Long: ".encode()
        answer = (await send_raw(port, head + b"a" * 70_000)).lower()
        assert answer.startswith(b"http/1.1 431 ")
        assert f"\r\n{ALLOWED}: {PAGE}\r\n".encode() in answer
        assert b"\r\nvary: origin\r\n" in answer

    async def test_another_origins_page_reads_nothing_though_it_has_a_key(self, client, key):
        answer = await client.get(ENTRIES, headers={"Origin": OTHER, **key})
        assert ALLOWED not in answer.headers
        assert "Origin" in answer.headers["vary"]


class TestWithoutKeys:
    async def test_an_allowed_page_may_read_and_write(self, client):
        page = {"Origin": PAGE, "Sec-Fetch-Site": "cross-site"}
        assert (await client.post(ENTRIES, json={"text": "x"}, headers=page)).status_code == 202
        assert (await client.get(ENTRIES, headers=page)).status_code == 200

    async def test_no_other_page_may_read_or_write(self, client):
        error_of(await client.get(ENTRIES, headers={"Origin": OTHER}), 401)


class TestEveryOrigin:
    @pytest.fixture
    def settings(self, tmp_path: Path) -> dict[str, object]:
        return {"KEYS_FILE": tmp_path / "keys.json", "ADA_CORS_ORIGINS": "*"}

    async def test_any_page_may_send_requests_with_a_key(self, client, key):
        assert (await preflight(client, OTHER)).headers[ALLOWED] == "*"
        answer = await client.get(ENTRIES, headers={"Origin": OTHER, **key})
        assert (answer.status_code, answer.headers[ALLOWED]) == (200, "*")
        assert "access-control-allow-credentials" not in answer.headers

    async def test_without_keys_no_page_is_admitted(self, client):
        error_of(await client.get(ENTRIES, headers={"Origin": OTHER}), 401)


class TestNone:
    @pytest.fixture
    def settings(self) -> dict[str, object]:
        return {}

    async def test_is_the_default(self, client):
        answer = await client.get("/healthz", headers={"Origin": PAGE})
        assert not [name for name in answer.headers if name.startswith("access-control")]
        error_of(await preflight(client, PAGE), 401)


class TestTheSetting:
    @pytest.mark.parametrize(
        ("given", "read"),
        [
            ("", ()),
            (PAGE, (PAGE,)),
            (f"{PAGE},{APP} , file://", (PAGE, APP, "file://")),
            (f'["{PAGE}", "{APP}"]', (PAGE, APP)),
            ("HTTPS://Chat.Example:443/, http://localhost:3000/", (PAGE, "http://localhost:3000")),
            ("http://[::1]:3000,chrome-extension://abc", ("http://[::1]:3000", "chrome-extension://abc")),
            ("*", ("*",)),
        ],
    )
    def test_is_a_list_in_either_spelling(self, monkeypatch, given: str, read: tuple[str, ...]):
        monkeypatch.setenv("ADA_CORS_ORIGINS", given)
        assert OrchestratorSettings.load().cors_origins == read

    @pytest.mark.parametrize(
        "given",
        ["chat.example", "localhost:3000", "null", "https://", f"{PAGE}/path", f"{PAGE}?a", "https://*.example",
         "https://drew@chat.example", "https://chat.example:x", "[", '["', "https://a b", "https://b\xfccher.example"],
    )  # fmt: skip
    def test_an_invalid_origin_is_named(self, monkeypatch, given: str):
        monkeypatch.setenv("ADA_CORS_ORIGINS", given)
        with pytest.raises(ConfigError, match="ADA_CORS_ORIGINS"):
            OrchestratorSettings.load()
