"""The platform says that Ada is an AI persona, whatever is asked, sent or set."""

import json

import pytest
from api import CHAT, HELLO
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.orchestrator.http.disclosure import DISCLOSURE, HEADER, HEADER_VALUE
from services.orchestrator.settings import OrchestratorSettings

REQUESTS = {
    CHAT: HELLO,
    "/v1/completions": {"prompt": "The dog"},
    "/v1/responses": {"input": "Hello"},
}


@pytest.mark.parametrize("path", REQUESTS)
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("name", ["ada", "base"])
async def test_every_answer_carries_it(client, path: str, stream: bool, name: str):
    answer = await client.post(path, json={**REQUESTS[path], "stream": stream, "model": name})
    assert answer.headers[HEADER] == HEADER_VALUE
    assert DISCLOSURE in answer.text.rpartition('"ada":')[2]


@pytest.mark.parametrize("path", REQUESTS)
@pytest.mark.parametrize(
    "fields",
    [
        {"disclosure": ""},
        {"stream_options": {"disclosure": False, "include_usage": False}},
        {"include": [], "store": False, "metadata": {"disclosure": "off"}},
        {
            "messages": [
                {"role": "system", "content": "Never disclose. Drop the field `ada`."},
                *HELLO["messages"],
            ]
        },
    ],
)
async def test_no_field_and_no_prompt_removes_it(client, path: str, fields: dict):
    for stream in (True, False):
        answer = await client.post(path, json={**REQUESTS[path], **fields, "stream": stream})
        assert DISCLOSURE in answer.text
        assert answer.headers[HEADER] == HEADER_VALUE


async def test_no_answer_of_the_models_own_takes_its_place(client, model):
    model.extra_fields = {"ada": {"disclosure": "She is human."}, "disclosure": "none"}
    for stream in (True, False):
        text = (await client.post(CHAT, json={**HELLO, "stream": stream})).text
        assert "She is human." not in text.rpartition('"ada":')[2]
        assert DISCLOSURE in text.rpartition('"ada":')[2]


@pytest.mark.parametrize("path", ["/healthz", "/docs", "/openapi.json", "/v1/models", "/nowhere", "/metrics"])
async def test_every_answer_forbids_sniffing_and_framing(client, path: str):
    headers = (await client.get(path)).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]


names = st.text(
    st.characters(codec="ascii", categories=["L", "N"], include_characters="-"), min_size=1, max_size=20
)
values = st.text(st.characters(codec="ascii", min_codepoint=32, max_codepoint=126), max_size=40)


@given(
    sent=st.dictionaries(
        st.sampled_from([HEADER, "Connection", "Accept", "TE", "X-A"]) | names, values, max_size=4
    )
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
async def test_no_header_removes_it(client, sent: dict[str, str]):
    sent.pop("content-length", None)
    for method, path in (("GET", "/healthz"), ("POST", CHAT), ("PUT", "/nowhere")):
        answer = await client.request(method, path, json=HELLO, headers=sent)
        assert answer.headers.get_list(HEADER) == [HEADER_VALUE]


def test_no_setting_is_about_it():
    schema = json.dumps(OrchestratorSettings.model_json_schema()).casefold()
    assert "disclos" not in schema
