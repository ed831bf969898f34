"""Keys over HTTP: no route answers without one, and an owner finds nothing of another's anywhere.

.venv/bin/python -m pytest tests/orchestrator/http/test_auth.py
"""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from api import CHAT, ENTRIES, HELLO, Api, error_of
from starlette.routing import Route

from services.api_keys import add_key, revoke_keys
from services.diary.ledger.ledger import Ledger
from services.orchestrator.app import create_app
from services.orchestrator.dependencies import AppState
from services.orchestrator.http.auth import PUBLIC_PATHS, ApiKeyStore, KeyHistory

JOBS = "/v1/jobs"


@asynccontextmanager
async def nothing() -> AsyncIterator[AppState]:
    """The routes are there without any parts."""
    raise AssertionError("not to be started")
    yield


ROUTES = {
    (method, route.path)
    for route in create_app(nothing).routes
    if isinstance(route, Route)
    for method in route.methods
}
CLOSED = sorted((method, path) for method, path in ROUTES if path not in PUBLIC_PATHS)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.fixture
def settings(file: Path) -> dict[str, object]:
    return {"KEYS_FILE": file}


@pytest.fixture
def overrides(file: Path, ledger: Ledger) -> dict[str, object]:
    """A store that looks at its file at every request."""
    store = ApiKeyStore(file, open_without_keys=True, history=KeyHistory(ledger), poll_s=0.0)
    return {"api_keys": store}


def bearer(file: Path, owner: str, requests: int | None = None, tokens: int | None = None) -> dict[str, str]:
    """The header of somebody with a new key."""
    return {"Authorization": f"Bearer {add_key(file, owner, requests, tokens, 0o600)[0]}"}


@pytest.fixture
def drew(file: Path) -> dict[str, str]:
    return bearer(file, "drew")


@pytest.fixture
def mila(file: Path) -> dict[str, str]:
    return bearer(file, "mila")


async def write(api: Api, text: str, who: dict[str, str]) -> dict:
    """Somebody's entry, indexed; what they were answered."""
    answer = await api.client.post(ENTRIES, json={"text": text}, headers=who)
    assert answer.status_code == 202, answer.text
    api.work()
    return answer.json()


class TestTheDoor:
    def test_only_health_and_documents_are_open(self):
        parts = {
            f"/docs/parts/{name}" for name in ("swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png")
        }
        assert {
            "/health",
            "/healthz",
            "/readyz",
            "/metrics",
            "/docs",
            "/openapi.json",
        } | parts == PUBLIC_PATHS

    def test_all_routes_are_walked(self):
        assert {("POST", CHAT), ("POST", ENTRIES), ("GET", JOBS), ("GET", "/v1/models")} <= set(CLOSED)
        assert len(CLOSED) >= 25

    @pytest.mark.parametrize(("method", "path"), CLOSED)
    async def test_no_route_answers_without_a_key(self, client, mila, method: str, path: str):
        path = re.sub(r"\{[^}]+\}", "anything", path)
        for headers in ({}, {"Authorization": "Bearer none"}, {"Authorization": "Basic bWlsYTo="}):
            answer = await client.request(method, path, headers=headers)
            assert answer.status_code == 401
            if method != "HEAD":
                assert error_of(answer, 401)["code"] == "invalid_api_key"
        assert (await client.request(method, path, headers=mila)).status_code != 401

    @pytest.mark.parametrize("path", ["/v1/nowhere", "/", "/healthz/", "//healthz", "/healthz/../v1/models"])
    async def test_an_unknown_route_does_not_answer_without_a_key_either(self, client, mila, path: str):
        error_of(await client.get(httpx.URL("http://localhost", raw_path=path.encode())), 401)

    @pytest.mark.parametrize("path", ["/health", "/healthz", "/readyz", "/docs", "/openapi.json"])
    async def test_health_and_documents_are_open(self, client, mila, path: str):
        assert (await client.get(path)).status_code == 200

    async def test_a_refusal_has_openais_shape_and_the_disclosure(self, client, mila):
        answer = await client.post(CHAT, json=HELLO)
        error = error_of(answer, 401)
        assert (error["type"], error["param"]) == ("invalid_request_error", None)
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert "AI-Disclosure" in answer.headers

    async def test_a_request_without_a_key_is_refused_before_its_body_is_read(self, client, mila):
        async def body() -> AsyncIterator[bytes]:
            raise AssertionError("the body was read")
            yield b""

        for path in (CHAT, ENTRIES, "/v1/diary/import", "/v1/diary/search"):
            error_of(await client.post(path, content=body()), 401)

    async def test_openapi_documents_which_routes_require_a_key(self, client):
        document = (await client.get("/openapi.json")).json()
        (name,) = document["components"]["securitySchemes"]
        assert document["components"]["securitySchemes"][name]["scheme"] == "bearer"
        for path, methods in document["paths"].items():
            for route in methods.values():
                assert route.get("security") == (None if path in PUBLIC_PATHS else [{name: []}]), path


class TestWhileSheRuns:
    async def test_no_key_is_required_until_one_exists(self, client, file: Path):
        for headers in ({}, {"Authorization": "Bearer none"}):
            assert (await client.post(CHAT, json=HELLO, headers=headers)).status_code == 200
        drew = bearer(file, "drew")
        error_of(await client.post(CHAT, json=HELLO), 401)
        assert (await client.post(CHAT, json=HELLO, headers=drew)).status_code == 200

    async def test_a_revoked_key_is_refused_and_the_others_are_not(self, client, file: Path, drew, mila):
        assert (await client.get(ENTRIES, headers=drew)).status_code == 200
        revoke_keys(file, "drew", 0o600)
        assert "revoked" in error_of(await client.get(ENTRIES, headers=drew), 401)["message"]
        assert (await client.get(ENTRIES, headers=mila)).status_code == 200
        revoke_keys(file, "mila", 0o600)
        error_of(await client.get(ENTRIES), 401)

    async def test_entries_written_without_keys_belong_to_the_key_of_local(self, api, file: Path):
        written = await write(api, "Before there were keys.", {})
        others, local = bearer(file, "drew"), bearer(file, "local")
        assert (await api.client.get(ENTRIES, headers=others)).json()["data"] == []
        (hits,) = (await api.client.get(ENTRIES, headers=local)).json()["data"]
        assert hits["id"] == written["id"]


class TestTwoOwners:
    """Drew has written something; Mila looks for it everywhere."""

    @pytest.fixture
    async def drews(self, api: Api, drew) -> dict:
        return await write(api, "The heron stood on the van.", drew)

    async def test_each_owner_finds_only_their_own_entries(self, api: Api, drew, mila, drews):
        milas = await write(api, "A heron in my own garden.", mila)
        for who, entry in ((drew, drews), (mila, milas)):
            listed = (await api.client.get(ENTRIES, headers=who)).json()["data"]
            request = {"query": "Where was the heron?"}
            hits = (await api.client.post("/v1/diary/search", json=request, headers=who)).json()["data"]
            exported = (await api.client.get("/v1/diary/export", headers=who)).text.splitlines()
            assert [item["id"] for item in listed] == [item["id"] for item in hits] == [entry["id"]]
            assert len(exported) == 1

    @pytest.mark.parametrize(
        ("method", "path", "body"),
        [
            ("GET", "/v1/diary/entries/{id}", None),
            ("GET", "/v1/diary/entries/{id}/history", None),
            ("PUT", "/v1/diary/entries/{id}", {"text": "There was no heron."}),
            ("DELETE", "/v1/diary/entries/{id}", None),
            ("GET", "/v1/jobs/{job_id}", None),
            ("POST", "/v1/jobs/{job_id}/retry", None),
        ],
    )
    async def test_an_entry_of_another_owner_is_not_found(
        self, client, drew, mila, drews, method: str, path: str, body: dict | None
    ):
        answer = await client.request(method, path.format(**drews), json=body, headers=mila)
        assert error_of(answer, 404)["code"] == "not_found"
        unchanged = await client.get(f"{ENTRIES}/{drews['id']}", headers=drew)
        assert (unchanged.json()["text"], unchanged.json()["version"]) == ("The heron stood on the van.", 1)

    async def test_jobs_are_listed_only_for_their_owner(self, client, drew, mila):
        accepted = (await client.post(ENTRIES, json={"text": "Not indexed yet."}, headers=drew)).json()
        query = {"status": "queued"}
        assert (await client.get(JOBS, params=query, headers=mila)).json()["data"] == []
        (job,) = (await client.get(JOBS, params=query, headers=drew)).json()["data"]
        assert job["id"] == accepted["job_id"]

    async def test_an_import_belongs_to_its_owner(self, client, drew, mila):
        sent = {"content": b'{"date": "2024-05-01", "text": "Garlic."}\n', "params": {"format": "jsonl"}}
        import_answer = (await client.post("/v1/diary/import", **sent, headers=drew)).json()
        assert import_answer["accepted"] == 1
        error_of(await client.get(f"/v1/diary/imports/{import_answer['import_id']}", headers=mila), 404)
        again = (await client.post("/v1/diary/import", **sent, headers=mila)).json()
        assert (again["accepted"], again["duplicates"]) == (1, 0)

    async def test_two_owners_may_use_the_same_id_and_idempotency_key(self, client, drew, mila):
        for who in (drew, mila):
            body = {"id": "first", "text": f"Of {who}"}
            answer = await client.post(ENTRIES, json=body, headers={**who, "Idempotency-Key": "one"})
            assert answer.status_code == 202
            assert (await client.get(f"{ENTRIES}/first", headers=who)).json()["text"] == body["text"]

    async def test_ada_recalls_only_entries_of_the_owner_of_the_key(self, api: Api, drew, mila, drews):
        question = {"model": "ada", "messages": [{"role": "user", "content": "Where was the heron?"}]}
        for who, status in ((drew, "used"), (mila, "empty")):
            answer = (await api.client.post(CHAT, json=question, headers=who)).json()
            assert answer["ada"]["diary"]["status"] == status
            assert ("stood on the van" in str(api.model.requests[-1])) is (who is drew)

    async def test_deleting_everything_deletes_only_the_owners_entries(self, client, drew, mila, drews):
        everything = {"all": True, "dry_run": False}
        assert (await client.post("/v1/diary/delete", json=everything, headers=mila)).json()["count"] == 0
        assert (await client.get(f"{ENTRIES}/{drews['id']}", headers=drew)).status_code == 200

    async def test_a_difference_is_reported_only_to_its_owner(self, client, drew, mila):
        await client.post(ENTRIES, json={"text": "Not indexed yet."}, headers=drew)
        assert (await client.get("/v1/diary/verify", headers=mila)).json() == {"equal": True, "data": []}
        (hits,) = (await client.get("/v1/diary/verify", headers=drew)).json()["data"]
        assert hits["kind"] == "queued"

    async def test_reindexing_is_one_job_for_all_owners(self, client, drew, mila):
        names = [
            (await client.post("/v1/diary/reindex", headers=who)).json()["job_id"] for who in (drew, mila)
        ]
        assert names == ["reindex", "reindex"]
        for who in (drew, mila):
            job = (await client.get(f"{JOBS}/reindex", headers=who)).json()
            assert (job["kind"], job["status"], job["entry_id"]) == ("reindex", "queued", None)


class TestLimits:
    async def test_requests_are_counted_by_key_over_chat_and_diary(self, client, file: Path, mila):
        drew = bearer(file, "drew", requests=3)
        left = [
            (await client.post(CHAT, json=HELLO, headers=drew)).headers["x-ratelimit-remaining-requests"],
            (await client.get(ENTRIES, headers=drew)).headers["x-ratelimit-remaining-requests"],
            (await client.get(JOBS, headers=drew)).headers["x-ratelimit-remaining-requests"],
        ]
        assert left == ["2", "1", "0"]
        for refused in (
            await client.post(CHAT, json=HELLO, headers=drew),
            await client.get(ENTRIES, headers=drew),
            await client.post("/v1/diary/reindex", headers=drew),
        ):
            error = error_of(refused, 429)
            assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
            assert "3 requests a minute" in error["message"]
            assert 1 <= int(refused.headers["Retry-After"]) <= 60
        assert "x-ratelimit-limit-requests" not in (await client.get(ENTRIES, headers=mila)).headers

    @pytest.mark.parametrize("stream", [True, False])
    async def test_tokens_of_answers_are_counted_and_the_diary_costs_none(
        self, client, file: Path, stream: bool
    ):
        drew = bearer(file, "drew", tokens=1)
        first = await client.post(CHAT, json={**HELLO, "stream": stream}, headers=drew)
        assert first.status_code == 200
        assert first.headers["x-ratelimit-limit-tokens"] == "1"
        refused = await client.post(CHAT, json=HELLO, headers=drew)
        assert "1 tokens a minute" in error_of(refused, 429)["message"]
        assert (await client.get(ENTRIES, headers=drew)).status_code == 200

    @pytest.mark.parametrize("settings", [{"KEY_REQUESTS_A_MINUTE": 1}])
    async def test_the_default_limit_applies_without_keys_too(self, client):
        assert (await client.get(ENTRIES)).status_code == 200
        error_of(await client.get(ENTRIES), 429)
