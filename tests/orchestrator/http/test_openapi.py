"""The OpenAPI document, and the page that shows it."""

import re

import pytest
from api import CHAT, ENTRIES, Api
from openapi_spec_validator import validate

from services.orchestrator.http.disclosure import DISCLOSURE, HEADER_VALUE

Json = dict
DIARY = "/v1/diary"
READS_JSON = [
    ("post", CHAT), ("post", "/v1/completions"), ("post", "/v1/responses"),
    ("post", ENTRIES), ("put", f"{ENTRIES}/{{entry_id}}"), ("post", f"{DIARY}/delete"),
    ("post", f"{DIARY}/search"), ("post", f"{DIARY}/reflect"), ("put", f"{DIARY}/conflicts/{{conflict_id}}"),
]  # fmt: skip


@pytest.fixture
async def document(client) -> Json:
    return (await client.get("/openapi.json")).json()


def operations(document: Json) -> list[tuple[str, str, Json]]:
    return [
        (method, path, route)
        for path, routes in document["paths"].items()
        for method, route in routes.items()
    ]


def schema_of(document: Json, content: Json) -> Json:
    """The schema of a JSON body, whether it stands there or is referred to."""
    schema = content["application/json"]["schema"]
    return (
        document["components"]["schemas"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    )


async def test_it_is_an_openapi_document(document: Json):
    validate(document)
    assert document["info"]["description"] == DISCLOSURE


async def test_every_route_of_the_app_is_documented(api: Api, document: Json):
    app = api.client._transport.app
    served = {
        (method.lower(), route.path)
        for route in app.routes
        for method in getattr(route, "methods", None) or ()
        if method != "HEAD"
    }
    not_told = {("get", "/docs"), ("get", "/openapi.json")}
    assert {(method, path) for method, path, _ in operations(document)} == served - not_told


async def test_every_route_of_the_contract_is_documented(document: Json):
    assert {(method, path) for method, path, _ in operations(document)} == {
        ("get", "/v1/models"), ("get", "/v1/models/{name}"), ("post", CHAT),
        ("post", "/v1/completions"), ("post", "/v1/responses"),
        ("post", ENTRIES), ("get", ENTRIES), ("get", f"{ENTRIES}/{{entry_id}}"),
        ("put", f"{ENTRIES}/{{entry_id}}"), ("delete", f"{ENTRIES}/{{entry_id}}"),
        ("get", f"{ENTRIES}/{{entry_id}}/history"), ("get", f"{DIARY}/tags"), ("post", f"{DIARY}/delete"),
        ("post", f"{DIARY}/search"), ("post", f"{DIARY}/import"), ("get", f"{DIARY}/imports/{{import_id}}"),
        ("get", f"{DIARY}/export"), ("post", f"{DIARY}/reflect"), ("get", f"{DIARY}/conflicts"),
        ("put", f"{DIARY}/conflicts/{{conflict_id}}"), ("post", f"{DIARY}/reindex"),
        ("get", f"{DIARY}/verify"), ("get", "/v1/jobs"), ("get", "/v1/jobs/{name}"),
        ("post", "/v1/jobs/{name}/retry"), ("get", "/health"), ("get", "/healthz"),
        ("get", "/readyz"), ("get", "/metrics"),
    }  # fmt: skip


async def test_every_error_has_openais_shape_and_the_frameworks_own_is_nowhere(document: Json):
    for method, path, route in operations(document):
        failed = {
            status: response for status, response in route["responses"].items() if not status.startswith("2")
        }
        assert {"401", "500"} <= failed.keys() or not path.startswith("/v1"), (method, path)
        for status, response in failed.items():
            if path != "/readyz":
                schema = response["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/ErrorAnswer"}, (method, path, status)
    assert "HTTPValidationError" not in str(document)


@pytest.mark.parametrize(("method", "path"), READS_JSON)
async def test_a_route_that_reads_json_documents_its_errors(document: Json, method: str, path: str):
    assert {"400", "408", "413", "415"} <= document["paths"][path][method]["responses"].keys()


async def test_the_headers_of_every_response_are_documented(document: Json):
    headers = document["components"]["headers"]
    assert headers["AI-Disclosure"]["schema"]["const"] == HEADER_VALUE
    for method, path, route in operations(document):
        for status, response in route["responses"].items():
            assert {"AI-Disclosure", "X-Request-Id"} <= response["headers"].keys(), (method, path, status)
    chat = document["paths"][CHAT]["post"]["responses"]
    assert "x-ratelimit-remaining-tokens" in chat["200"]["headers"]
    assert "Retry-After" in chat["429"]["headers"]
    assert "Retry-After" in chat["503"]["headers"]
    assert "ETag" in document["paths"][f"{ENTRIES}/{{entry_id}}"]["get"]["responses"]["200"]["headers"]


async def test_bodies_that_the_app_parses_itself_are_documented_too(document: Json):
    entry = schema_of(document, document["paths"][ENTRIES]["post"]["requestBody"]["content"])
    assert {"text", "date", "mood", "tags", "id", "timezone"} == entry["properties"].keys()
    edit = schema_of(document, document["paths"][f"{ENTRIES}/{{entry_id}}"]["put"]["requestBody"]["content"])
    assert "version" in edit["properties"]
    sent = document["paths"][f"{DIARY}/import"]["post"]["requestBody"]["content"]
    assert {"multipart/form-data", "text/csv", "application/json"} <= sent.keys()


@pytest.mark.parametrize("where", ["request", "answer"])
async def test_adas_own_fields_of_a_chat_are_documented(document: Json, where: str):
    chat = document["paths"][CHAT]["post"]
    content = chat["requestBody"] if where == "request" else chat["responses"]["200"]
    assert "ada" in schema_of(document, content["content"])["properties"]


async def test_fields_that_the_model_server_checks_are_documented_too(document: Json):
    fields = {
        path: schema_of(document, document["paths"][path]["post"]["requestBody"]["content"])[
            "properties"
        ].keys()
        for path in (CHAT, "/v1/completions", "/v1/responses")
    }
    assert {
        "temperature", "top_p", "top_k", "n", "stop", "seed", "logprobs", "top_logprobs", "max_tokens",
        "max_completion_tokens", "response_format", "presence_penalty",
    } <= fields[CHAT]  # fmt: skip
    assert {"prompt", "max_tokens", "echo"} <= fields["/v1/completions"]
    assert {"input", "max_output_tokens"} <= fields["/v1/responses"]


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/responses"])
async def test_an_example_works_as_it_is(client, document: Json, path: str):
    content = document["paths"][path]["post"]["requestBody"]["content"]
    answer = await client.post(path, json=schema_of(document, content)["examples"][0])
    assert answer.status_code == 200, answer.text


async def test_the_page_loads_nothing_from_elsewhere(client):
    page = await client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    linked = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(linked) == 3
    for link in linked:
        assert "://" not in link
        part = await client.get(f"/{link}")
        assert part.status_code == 200, link
        assert "AI-Disclosure" in part.headers
    assert "url: 'openapi.json'" in page.text


async def test_no_other_page_of_the_framework_is_served(client):
    assert (await client.get("/redoc")).status_code == 404
