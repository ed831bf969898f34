"""What all routes have in common in the OpenAPI document: headers, and none of the framework's own errors."""

from typing import Any

from fastapi import FastAPI

from services.orchestrator.http.disclosure import HEADER, disclosure_of

Json = dict[str, Any]
_LIMITED = "only for a key that has limits"
_HEADERS: Json = {
    HEADER: {
        "description": "on every response: it comes from an AI persona",
        "required": True,
        "schema": {"type": "string"},
    },
    "X-Request-Id": {
        "description": "the id that the request was sent with, else a new one; the log has it too",
        "required": True,
        "schema": {"type": "string"},
    },
    "Retry-After": {"description": "ask again after so many seconds", "schema": {"type": "integer"}},
    "WWW-Authenticate": {"description": "how to send a key", "schema": {"type": "string", "const": "Bearer"}},
    "ETag": {"description": "the version, for `If-Match`", "schema": {"type": "string"}},
}
for _what in ("requests", "tokens"):
    _HEADERS |= {
        f"x-ratelimit-limit-{_what}": {"description": _LIMITED, "schema": {"type": "integer"}},
        f"x-ratelimit-remaining-{_what}": {"description": _LIMITED, "schema": {"type": "integer"}},
        f"x-ratelimit-reset-{_what}": {
            "description": f'{_LIMITED}, as "12.5s"',
            "schema": {"type": "string"},
        },
    }
_ALWAYS = (HEADER, "X-Request-Id")
_OF_STATUS = {"429": ["Retry-After"], "503": ["Retry-After"], "401": ["WWW-Authenticate"]}
_TOLD_OF_LIMITS = [name for name in _HEADERS if name.startswith("x-ratelimit")]


def describe_responses(app: FastAPI) -> None:
    """Have OpenAPI tell the headers of every response."""
    describe_app = app.openapi

    def openapi() -> Json:
        told, disclosure = describe_app(), disclosure_of(app)
        told["info"]["description"] = disclosure.sentence
        disclosing = {**_HEADERS[HEADER], "schema": {"type": "string", "const": disclosure.header}}
        told["components"]["headers"] = {**_HEADERS, HEADER: disclosing}
        for path, methods in told["paths"].items():
            for route in methods.values():
                _drop_frameworks_own(route["responses"])
                for status, response in route["responses"].items():
                    names = [*_ALWAYS, *_names(path, status)]
                    response.setdefault("headers", {}).update(
                        {name: {"$ref": f"#/components/headers/{name}"} for name in names}
                    )
        for name in ("HTTPValidationError", "ValidationError"):
            told["components"]["schemas"].pop(name, None)
        return told

    app.openapi = openapi  # type: ignore[method-assign]


def _names(path: str, status: str) -> list[str]:
    if status.startswith("2"):
        return _TOLD_OF_LIMITS if path.startswith("/v1/") and not path.startswith("/v1/models") else []
    return _OF_STATUS.get(status, [])


def _drop_frameworks_own(responses: Json) -> None:
    """A path of plain text is never refused, whatever the framework thinks."""
    if "HTTPValidationError" in str(responses.get("422")):
        del responses["422"]
