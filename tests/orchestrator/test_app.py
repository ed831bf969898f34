"""What holds for every route: the disclosure, OpenAI's errors, readiness, models, and what OpenAPI tells.

.venv/bin/python -m pytest tests/orchestrator
"""

import pytest
from voice import CHAT, ENTRIES, HELLO, TEMPLATE, error_of

from services.orchestrator.edge.disclosure import DISCLOSURE


async def test_readyz_names_each_dependency(client, model):
    ready = await client.get("/readyz")
    assert ready.status_code == 200
    assert set(ready.json()["checks"].values()) == {"ok"}
    model.down = True
    not_ready = await client.get("/readyz")
    assert not_ready.status_code == 503
    assert "can't be reached" in not_ready.json()["checks"]["model"]
    assert not_ready.json()["checks"]["ledger"] == "ok"


async def test_readyz_refuses_a_model_that_renders_another_template(client, model):
    model.template = TEMPLATE.replace("Ada", "assistant")
    answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert "template mismatch" in answer.json()["checks"]["template"]


async def test_models_are_ada_and_base(client):
    answer = (await client.get("/v1/models")).json()
    assert [m["id"] for m in answer["data"]] == ["ada", "base"]
    assert answer["data"][0]["ada"]["adapter"] == "run-1"
    assert (await client.get("/v1/models/ada")).json()["id"] == "ada"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/healthz"),
        ("GET", "/readyz"),
        ("GET", "/v1/models"),
        ("POST", CHAT),
        ("POST", ENTRIES),
        ("GET", ENTRIES),
        ("GET", "/v1/jobs/none"),
        ("GET", "/nowhere"),
        ("DELETE", CHAT),
    ],
)
async def test_every_response_discloses_errors_included(client, method, path):
    answer = await client.request(method, path, json=HELLO if path == CHAT else None)
    assert answer.headers["AI-Disclosure"].startswith("mode=machine-generated")


async def test_even_a_crash_discloses_and_keeps_openais_shape(client, voice, monkeypatch):
    monkeypatch.setattr(voice.state.limits, "admit", lambda caller: 1 / 0)
    answer = await client.post(CHAT, json=HELLO)
    assert error_of(answer, 500)["code"] == "internal_error"
    assert "AI-Disclosure" in answer.headers


async def test_no_request_can_turn_the_disclosure_off(client):
    body = {**HELLO, "disclosure": "", "ada": {"disclosure": "none"}}
    refused = await client.post(CHAT, json=body, headers={"AI-Disclosure": "no"})
    assert refused.status_code == 400
    answer = await client.post(CHAT, json={**HELLO, "disclosure": ""}, headers={"AI-Disclosure": "no"})
    assert answer.json()["ada"]["disclosure"] == DISCLOSURE
    assert "machine-generated" in answer.headers["AI-Disclosure"]


class TestOpenApi:
    @pytest.fixture
    async def described(self, client) -> dict:
        return (await client.get("/openapi.json")).json()

    async def test_it_tells_every_route_of_the_contract(self, described: dict):
        routes = {(method, path) for path, methods in described["paths"].items() for method in methods}
        diary = "/v1/diary"
        assert routes == {
            ("get", "/v1/models"), ("get", "/v1/models/{name}"), ("post", "/v1/chat/completions"),
            ("post", "/v1/completions"), ("post", "/v1/responses"),
            ("post", f"{diary}/entries"), ("get", f"{diary}/entries"),
            ("get", f"{diary}/entries/{{entry_id}}"), ("put", f"{diary}/entries/{{entry_id}}"),
            ("delete", f"{diary}/entries/{{entry_id}}"), ("get", f"{diary}/entries/{{entry_id}}/history"),
            ("get", f"{diary}/tags"), ("post", f"{diary}/delete"), ("post", f"{diary}/search"),
            ("post", f"{diary}/import"), ("get", f"{diary}/imports/{{import_id}}"),
            ("get", f"{diary}/export"), ("post", f"{diary}/reflect"), ("get", f"{diary}/conflicts"),
            ("put", f"{diary}/conflicts/{{conflict_id}}"), ("post", f"{diary}/reindex"),
            ("get", f"{diary}/verify"), ("get", "/v1/jobs"), ("get", "/v1/jobs/{name}"),
            ("post", "/v1/jobs/{name}/retry"), ("get", "/healthz"), ("get", "/readyz"),
        }  # fmt: skip

    async def test_every_error_has_openais_shape_and_the_frameworks_own_is_nowhere(self, described: dict):
        for path, methods in described["paths"].items():
            for method, route in methods.items():
                if path.startswith("/v1"):
                    told = route["responses"]["4XX"]["content"]["application/json"]["schema"]
                    assert told == {"$ref": "#/components/schemas/ErrorAnswer"}, (method, path)
        assert "HTTPValidationError" not in described["components"]["schemas"]

    async def test_bodies_that_are_read_by_hand_are_told_all_the_same(self, described: dict):
        entry = described["paths"][ENTRIES]["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert {"text", "date", "mood", "tags", "id"} == entry["properties"].keys()
        edit = described["paths"][f"{ENTRIES}/{{entry_id}}"]["put"]["requestBody"]["content"]
        assert "version" in edit["application/json"]["schema"]["properties"]
        sent = described["paths"]["/v1/diary/import"]["post"]["requestBody"]["content"]
        assert {"multipart/form-data", "text/csv", "application/json"} <= sent.keys()

    @pytest.mark.parametrize("where", ["request", "answer"])
    async def test_adas_own_fields_of_the_chat_are_told(self, described: dict, where: str):
        chat = described["paths"][CHAT]["post"]
        content = chat["requestBody"] if where == "request" else chat["responses"]["200"]
        reference = content["content"]["application/json"]["schema"]["$ref"]
        schema = described["components"]["schemas"][reference.rpartition("/")[2]]
        assert "ada" in schema["properties"]
