"""OpenAI's routes in the OpenAPI document: they are none of the framework's, so they are told by hand."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from services.orchestrator.chat.endpoint import Endpoint
from services.orchestrator.chat.schemas import Answer

_REFERENCE = "#/components/schemas/{model}"
_ERROR = {"$ref": _REFERENCE.format(model="ErrorAnswer")}
Json = dict[str, Any]


def describe_endpoints(app: FastAPI, endpoints: Mapping[str, Endpoint[Any]]) -> None:
    """Have OpenAPI tell the endpoints, by path."""
    describe_app = app.openapi

    def openapi() -> Json:
        told = describe_app()
        shown: list[tuple[type[BaseModel], JsonSchemaMode]] = [(Answer, "serialization")]
        shown += [(endpoint.schema, "validation") for endpoint in endpoints.values()]
        _, models = models_json_schema(shown, ref_template=_REFERENCE)
        told["components"]["schemas"] |= models["$defs"]
        told["paths"] |= {path: {"post": _route(endpoint)} for path, endpoint in endpoints.items()}
        return told

    app.openapi = openapi  # type: ignore[method-assign]


def _route(endpoint: Endpoint[Any]) -> Json:
    asked = {"$ref": _REFERENCE.format(model=endpoint.schema.__name__)}
    answer = {"$ref": _REFERENCE.format(model=Answer.__name__)}
    event = {"schema": {"type": "string", "description": "server-sent events, when `stream` is true"}}
    failed = {"description": "OpenAI's error", "content": {"application/json": {"schema": _ERROR}}}
    return {
        "tags": ["chat"],
        "summary": (endpoint.schema.__doc__ or "").partition(";")[0],
        "operationId": endpoint.schema.__name__,
        "requestBody": {"required": True, "content": {"application/json": {"schema": asked}}},
        "responses": {
            "200": {
                "description": "The answer",
                "content": {"application/json": {"schema": answer}, "text/event-stream": event},
            },
            "4XX": failed,
            "5XX": failed,
        },
    }
