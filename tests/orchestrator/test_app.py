"""What holds for every route: the disclosure, OpenAI's errors, readiness and models.

.venv/bin/python -m pytest tests/orchestrator
"""

import pytest
from api import CHAT, ENTRIES, HELLO, TEMPLATE, FailingLimits, error_of

from services.orchestrator.http.disclosure import DISCLOSURE


async def test_readyz_names_each_dependency(client, model):
    ready = await client.get("/readyz")
    assert ready.status_code == 200
    assert set(ready.json()["checks"].values()) == {"ok"}
    model.is_down = True
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
async def test_every_response_has_the_disclosure_even_an_error(client, method, path):
    answer = await client.request(method, path, json=HELLO if path == CHAT else None)
    assert answer.headers["AI-Disclosure"].startswith("mode=machine-generated")


async def test_even_a_crash_has_the_disclosure_and_openais_shape(client, api):
    api.override(rate_limits=FailingLimits())
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
