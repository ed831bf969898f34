"""Every operation of the OpenAPI document, asked with what fits it and with what does not.

Nothing of it ends in a 5xx, and every answer is as the document says. To look longer:
FUZZ_EXAMPLES=500 .venv/bin/python -m pytest tests/orchestrator/http/test_fuzz.py
"""

import asyncio
import os

import httpx
import pytest
import schemathesis
from api import ENTRIES
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from services.orchestrator.app import create_app

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "10"))
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
WITHOUT_INPUT = {"GET /health", "GET /healthz", "GET /readyz", "GET /metrics"}
KNOWN = {"entry_id": "known", "name": "ada"}


def nothing():
    raise AssertionError("the app is not started")


DOCUMENT = schemathesis.openapi.from_dict(create_app(nothing).openapi())
OPERATIONS = {operation.ok().label: operation.ok() for operation in DOCUMENT.get_all_operations()}


@pytest.fixture
async def url(server, port: int) -> str:
    """Of an API whose diary has an entry."""
    url = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(base_url=url) as client:
        entry = {"id": KNOWN["entry_id"], "text": "A stray dog."}
        assert (await client.post(ENTRIES, json=entry)).status_code == 202
    return url


def test_the_whole_document_is_walked():
    assert len(OPERATIONS) > 25


@pytest.mark.parametrize("label", sorted(OPERATIONS))
async def test_every_operation_answers_as_documented(url: str, label: str):
    await asyncio.to_thread(fuzz, OPERATIONS[label], GenerationMode.POSITIVE, url)
    if label not in WITHOUT_INPUT:
        await asyncio.to_thread(fuzz, OPERATIONS[label], GenerationMode.NEGATIVE, url)


def fuzz(operation: APIOperation, mode: GenerationMode, url: str) -> None:
    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
    )
    def ask(case: Case) -> None:
        take_known(case)
        answer = case.call(base_url=url)
        case.validate_response(answer, checks=CHECKS)
        assert "machine-generated" in answer.headers["ai-disclosure"][0]
        assert answer.headers["x-request-id"]
        if answer.status_code >= 400 and case.path != "/readyz":
            assert answer.json()["error"].keys() == {"message", "type", "param", "code"}

    ask()


def take_known(case: Case) -> None:
    """Nothing is found under names that were drawn: about half of them become one that is there."""
    for name, value in case.path_parameters.items():
        if name in KNOWN and len(str(value)) % 2:
            case.path_parameters[name] = KNOWN[name]
