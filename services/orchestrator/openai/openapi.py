"""OpenAI's routes in the OpenAPI document: they are none of the framework's, so they are told by hand."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from services.orchestrator.openai.endpoint import Endpoint
from services.orchestrator.openai.schemas import Answer

_REFERENCE = "#/components/schemas/{model}"
_ERROR = {"$ref": _REFERENCE.format(model="ErrorAnswer")}
_EVENTS = {"description": "server-sent events, when `stream` is true"}
_FAILURES = {
    "400": "a field is not acceptable, or the body can't be read",
    "401": "the API key is missing, unknown or revoked",
    "404": "there is no such model",
    "408": "the body did not come in time",
    "413": "the body is larger than MAX_BODY_BYTES",
    "415": "the body is of another type than JSON",
    "429": "the key's limit is reached, or the model has no place left",
    "500": "something unforeseen",
    "502": "the model server failed, or its answer is none that can be passed on",
    "503": "the model is away",
    "504": "the model server missed a deadline (MODEL_FIRST_TOKEN_TIMEOUT_S, MODEL_WHOLE_TIMEOUT_S)",
    "4XX": "what else the model server refuses, in its own words",
    "5XX": "what else goes wrong in the model server, in its own words",
}
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
        own = {path: {"post": _route(endpoint)} for path, endpoint in endpoints.items()}
        told["paths"] = own | told["paths"]  # what most come for stands first
        return told

    app.openapi = openapi  # type: ignore[method-assign]


def _route(endpoint: Endpoint[Any]) -> Json:
    return {
        "tags": ["chat"],
        "summary": (endpoint.schema.__doc__ or "").partition(";")[0],
        "operationId": endpoint.schema.__name__,
        "requestBody": {"required": True, "content": _json(_model(endpoint.schema))},
        "responses": {
            "200": {
                "description": "The answer",
                "content": {**_json(_model(Answer)), "text/event-stream": {"schema": _EVENTS}},
            },
            **{status: {"description": why, "content": _json(_ERROR)} for status, why in _FAILURES.items()},
        },
    }


def _model(schema: type[BaseModel]) -> Json:
    return {"$ref": _REFERENCE.format(model=schema.__name__)}


def _json(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}
