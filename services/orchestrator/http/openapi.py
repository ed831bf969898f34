"""The OpenAPI document: what the framework derives from its routes, and what it can't know.

Those are OpenAI's own routes, which are plain ASGI; the headers of every response; and the routes' keys.
"""

from collections.abc import Mapping

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from services.orchestrator.http.auth import PUBLIC_PATHS
from services.orchestrator.http.disclosure import HEADER, Disclosure
from services.orchestrator.http.json_body import Json

_REFERENCE = "#/components/schemas/{model}"
_ERROR = {"$ref": _REFERENCE.format(model="ErrorAnswer")}
_EVENTS = {"description": "server-sent events, when `stream` is true"}
_FAILURES = {
    "400": "a field is invalid, or the body can't be read",
    "401": "the API key is missing, unknown or revoked",
    "404": "the model does not exist",
    "408": "the body did not arrive in time",
    "413": "the body is larger than MAX_BODY_BYTES",
    "415": "the body is not JSON",
    "429": "the key's limit is reached, or the model server is at capacity",
    "500": "an unexpected error",
    "502": "the model server failed, or its answer is invalid",
    "503": "the model server is unavailable",
    "504": "the model server missed a deadline (MODEL_FIRST_TOKEN_TIMEOUT_S, MODEL_WHOLE_TIMEOUT_S)",
    "4XX": "another error of the model server, with its own message",
    "5XX": "another failure of the model server, with its own message",
}

_ONLY_WITH_LIMITS = "only for a key that has limits"
_RESPONSE_HEADERS: Json = {
    HEADER: {
        "description": "on every response: it comes from an AI persona",
        "required": True,
        "schema": {"type": "string"},
    },
    "X-Request-Id": {
        "description": "the id that the request was sent with, or a new one; it is in the log",
        "required": True,
        "schema": {"type": "string"},
    },
    "Retry-After": {"description": "seconds to wait before the next attempt", "schema": {"type": "integer"}},
    "WWW-Authenticate": {"description": "how to send a key", "schema": {"type": "string", "const": "Bearer"}},
    "ETag": {"description": "the version, for `If-Match`", "schema": {"type": "string"}},
}
for _unit in ("requests", "tokens"):
    _RESPONSE_HEADERS |= {
        f"x-ratelimit-limit-{_unit}": {"description": _ONLY_WITH_LIMITS, "schema": {"type": "integer"}},
        f"x-ratelimit-remaining-{_unit}": {"description": _ONLY_WITH_LIMITS, "schema": {"type": "integer"}},
        f"x-ratelimit-reset-{_unit}": {
            "description": f'{_ONLY_WITH_LIMITS}, as "12.5s"',
            "schema": {"type": "string"},
        },
    }
_ALWAYS = (HEADER, "X-Request-Id")
_BY_STATUS = {"429": ["Retry-After"], "503": ["Retry-After"], "401": ["WWW-Authenticate"]}
_RATE_LIMIT_HEADERS = [name for name in _RESPONSE_HEADERS if name.startswith("x-ratelimit")]
_KEY_SCHEME = "key"


def complete_document(
    document: Json, disclosure: Disclosure, requests: Mapping[str, type[BaseModel]], answer: type[BaseModel]
) -> Json:
    """The framework's document with everything that it lacks; `document` itself is changed.

    `requests` are the plain ASGI routes: path and schema of the body of each. All answer with `answer`.
    """
    _add_plain_routes(document, requests, answer)
    _require_keys(document)
    _add_headers(document, disclosure)
    document["info"]["description"] = disclosure.sentence
    for name in ("HTTPValidationError", "ValidationError"):  # the framework's, which no route answers with
        document["components"]["schemas"].pop(name, None)
    return document


def _add_plain_routes(
    document: Json, requests: Mapping[str, type[BaseModel]], answer: type[BaseModel]
) -> None:
    schemas: list[tuple[type[BaseModel], JsonSchemaMode]] = [(answer, "serialization")]
    schemas += [(request, "validation") for request in requests.values()]
    _, models = models_json_schema(schemas, ref_template=_REFERENCE)
    document["components"]["schemas"] |= models["$defs"]
    routes = {path: {"post": _plain_route(request, answer)} for path, request in requests.items()}
    document["paths"] = routes | document["paths"]  # the most used ones come first


def _plain_route(request: type[BaseModel], answer: type[BaseModel]) -> Json:
    return {
        "tags": ["chat"],
        "summary": (request.__doc__ or "").partition(";")[0],
        "operationId": request.__name__,
        "requestBody": {"required": True, "content": _json(_reference(request))},
        "responses": {
            "200": {
                "description": "The answer",
                "content": {**_json(_reference(answer)), "text/event-stream": {"schema": _EVENTS}},
            },
            **{status: {"description": why, "content": _json(_ERROR)} for status, why in _FAILURES.items()},
        },
    }


def _reference(schema: type[BaseModel]) -> Json:
    return {"$ref": _REFERENCE.format(model=schema.__name__)}


def _json(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}


def _require_keys(document: Json) -> None:
    schemes = document["components"].setdefault("securitySchemes", {})
    schemes[_KEY_SCHEME] = {"type": "http", "scheme": "bearer", "description": "of `make key OWNER=…`"}
    for path in document["paths"].keys() - PUBLIC_PATHS:
        for route in document["paths"][path].values():
            route["security"] = [{_KEY_SCHEME: []}]


def _add_headers(document: Json, disclosure: Disclosure) -> None:
    constant = {**_RESPONSE_HEADERS[HEADER], "schema": {"type": "string", "const": disclosure.header}}
    document["components"]["headers"] = {**_RESPONSE_HEADERS, HEADER: constant}
    for path, methods in document["paths"].items():
        for route in methods.values():
            _drop_frameworks_errors(route["responses"])
            for status, response in route["responses"].items():
                names = [*_ALWAYS, *_header_names(path, status)]
                response.setdefault("headers", {}).update(
                    {name: {"$ref": f"#/components/headers/{name}"} for name in names}
                )


def _header_names(path: str, status: str) -> list[str]:
    if status.startswith("2"):
        is_limited = path.startswith("/v1/") and not path.startswith("/v1/models")
        return _RATE_LIMIT_HEADERS if is_limited else []
    return _BY_STATUS.get(status, [])


def _drop_frameworks_errors(responses: Json) -> None:
    """The framework declares 422 for every route with a path parameter; a plain string is never refused."""
    if "HTTPValidationError" in str(responses.get("422")):
        del responses["422"]
