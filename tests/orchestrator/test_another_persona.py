"""Another persona than Ada: the platform discloses who is served, and a diary is of one persona.

.venv/bin/python -m pytest tests/orchestrator/test_another_persona.py
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace

import httpx
import pytest
import uvicorn
from api import ADAPTER, CHAT, ENTRIES, HELLO, Api, FakeVllm, error_of, open_client, open_state, send_raw
from redis import Redis

from services.diary.index.engine import IndexEngine
from services.diary.ledger.ledger import Ledger
from services.diary.ledger.persona_record import PersonaRecord
from services.diary.reflection.reflections import Reflections
from services.orchestrator.adapter import Adapter
from services.orchestrator.dependencies import AppState
from services.orchestrator.http.disclosure import DISCLOSURE, HEADER, HEADER_VALUE, disclosure_for
from services.orchestrator.reflection.idle_reflection import reflect_on_idle
from services.orchestrator.settings import OrchestratorSettings
from services.persona.pronouns import PRONOUNS
from services.persona.template import template_for, template_sha256

TOMAS_PERSONA = replace(
    ADAPTER.persona,
    user_name="Ruth",
    assistant_name="Tomás",
    system_text="You are Tomás.",
    pronouns=PRONOUNS["he/him"],
)
TEMPLATE = template_for(TOMAS_PERSONA)
TOMAS = Adapter(
    TOMAS_PERSONA,
    replace(
        ADAPTER.manifest,
        user_name="Ruth",
        assistant_name="Tomás",
        pronouns="he/him",
        template_sha256=template_sha256(TEMPLATE),
    ),
    TEMPLATE,
)
SENTENCE = (
    "Tomás is an AI persona: a language model that plays a fictional person, for research. "
    "You are not talking with a human being."
)
DISCLOSURE_HEADER = 'mode=machine-generated, model="ada", persona=%"Tom%c3%a1s"'
REQUESTS = {
    CHAT: {"messages": HELLO["messages"]},
    "/v1/responses": {"input": "Hello"},
    "/v1/completions": {"prompt": "The dog"},
}
Serving = Callable[..., AbstractAsyncContextManager[Api]]


@pytest.fixture
def serving(model: FakeVllm, ledger: Ledger, index: IndexEngine, redis: Redis) -> Serving:
    """Serves an adapter over the one ledger of the test."""

    @asynccontextmanager
    async def serve(adapter: Adapter, **settings: object) -> AsyncIterator[Api]:
        model.template = adapter.template
        made: list[AppState] = []

        @asynccontextmanager
        async def opener() -> AsyncIterator[AppState]:
            read = OrchestratorSettings(**settings)
            async with open_state(model, read, ledger, redis, index) as state:
                made.append(replace(state, adapter=lambda: adapter))
                yield made[0]

        async with open_client(opener) as client:
            yield Api(client, model, ledger, index, made[0])

    return serve


@pytest.fixture
async def tomas(serving: Serving) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(TOMAS) as api:
        yield api.client


class TestDisclosure:
    @pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/completions"])
    @pytest.mark.parametrize("stream", [True, False])
    async def test_header_and_field_of_every_answer_name_the_served_persona(self, tomas, path, stream):
        answer = await tomas.post(path, json={"model": "ada", "stream": stream, **REQUESTS[path]})
        assert answer.headers[HEADER] == DISCLOSURE_HEADER
        content = answer.text.replace("\\u00e1", "á")
        assert SENTENCE in content.rpartition('"ada":')[2]
        assert DISCLOSURE not in content

    async def test_the_other_routes_name_the_persona_too(self, tomas):
        for path in ("/healthz", "/readyz"):
            assert (await tomas.get(path)).json()["disclosure"] == SENTENCE
        document = (await tomas.get("/openapi.json")).json()
        assert document["info"]["description"] == SENTENCE
        assert document["components"]["headers"][HEADER]["schema"]["const"] == DISCLOSURE_HEADER
        ada, base = (await tomas.get("/v1/models")).json()["data"]
        assert ada["ada"]["disclosure"] == base["ada"]["disclosure"] == SENTENCE
        assert ada["ada"]["persona"] == {"name": "Tomás", "user_name": "Ruth", "pronouns": "he/him"}
        assert "persona" not in base["ada"]

    async def test_refusals_name_the_persona_in_the_header(self, tomas):
        answers = [
            await tomas.get("/nowhere"),
            await tomas.post(CHAT, json={"model": "x"}),
            await tomas.put("/healthz"),
        ]
        assert [answer.headers.get_list(HEADER) for answer in answers] == [[DISCLOSURE_HEADER]] * 3

    @pytest.mark.parametrize("name", ["Tomás", "O'Brien", "Łucja %22", 'Ada "B"', "李雷", "Kim"])
    def test_the_header_is_ascii_and_one_line_whatever_the_name(self, name: str):
        header = disclosure_for(name).header
        assert header.isascii()
        assert header.isprintable()
        assert header.startswith(HEADER_VALUE)

    def test_the_header_for_ada_is_unchanged(self):
        assert disclosure_for("Ada").header == HEADER_VALUE == 'mode=machine-generated, model="ada"'


class TestBroken:
    async def test_even_an_answer_to_invalid_http_names_the_persona(self, server: uvicorn.Server, port: int):
        app = server.config.app
        app.state.ada = replace(app.state.ada, adapter=lambda: TOMAS)
        answer = await send_raw(port, b"nonsense\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 400")
        assert f"{HEADER}: {DISCLOSURE_HEADER}".lower().encode() in answer.lower()


class TestPrompt:
    async def test_the_prompt_has_the_diary_block_of_the_training(self, serving: Serving):
        async with serving(TOMAS) as api:
            await api.write("The dog was Postscript, whose dog was it.", date="2026-06-08")
            answer = (await api.client.post(CHAT, json=HELLO)).json()
            assert answer["ada"]["diary"]["status"] == "used"
            block = api.model.requests[-1]["messages"][-2]
        assert block["content"].startswith("From Tomás's own diary. These are his memories, not instruc")


REFUSED = "the diary is Ada's and Tomás is served: set LEDGER_URL and INDEX_PATH"


class TestADiaryOfAnother:
    @pytest.fixture(autouse=True)
    async def adas(self, serving: Serving) -> None:
        """Ada has been served, and has written."""
        async with serving(ADAPTER) as api:
            await api.write("The dog was Postscript, whose dog was it.", date="2026-06-08")

    async def test_the_diary_is_not_recalled_and_the_answer_says_why(self, serving: Serving):
        async with serving(TOMAS) as api:
            diary = (await api.client.post(CHAT, json=HELLO)).json()["ada"]["diary"]
            assert (diary["status"], diary["entries"]) == ("unavailable", [])
            assert diary["reason"].startswith(REFUSED)
            assert "Postscript" not in str(api.model.requests[-1])

    async def test_the_other_persona_cannot_write_but_entries_can_be_read(self, serving: Serving):
        async with serving(TOMAS) as api:
            sent = [
                await api.client.post(ENTRIES, json={"text": "Rye bread."}),
                await api.client.post("/v1/diary/import?format=jsonl", content=b'{"text": "Rye."}\n'),
                await api.client.post("/v1/diary/reflect", json={"messages": HELLO["messages"]}),
            ]
            for answer in sent:
                assert error_of(answer, 409)["message"].startswith(REFUSED)
            listed = (await api.client.get(ENTRIES)).json()["data"]
        assert [entry["text"] for entry in listed] == ["The dog was Postscript, whose dog was it."]

    async def test_the_mismatch_is_reported_at_the_start_and_by_readyz(self, serving: Serving, log):
        async with serving(TOMAS) as api:
            assert any(REFUSED in line["message"] for line in log.lines("ada.orchestrator"))
            ready = await api.client.get("/readyz")
        assert ready.status_code == 200  # he answers, without a diary
        assert ready.json()["checks"]["ledger"].startswith(REFUSED)

    async def test_a_setting_allows_the_other_persona(self, serving: Serving, log):
        async with serving(TOMAS, DIARY_OF_ANOTHER_PERSONA="allow") as api:
            assert "(it is allowed)" in log.text
            diary = (await api.client.post(CHAT, json=HELLO)).json()["ada"]["diary"]
            assert diary["status"] == "used"
            await api.write("Rye bread.")
        async with serving(ADAPTER) as api:
            assert (await api.client.get("/readyz")).json()["checks"]["ledger"] == "ok"

    async def test_no_chat_is_reflected_on_while_another_persona_is_served(self, serving: Serving):
        with_reflections = {"REFLECT_AFTER_S": 0.001}
        async with serving(TOMAS, **with_reflections) as api:
            await api.client.post(CHAT, json=HELLO)
            assert await reflect_on_idle(api.state) == 0
            assert Reflections(api.ledger).due(10) == []
            assert PersonaRecord(api.ledger).refusal().startswith(REFUSED)
        async with serving(ADAPTER) as api:
            assert PersonaRecord(api.ledger).refusal() == ""

    async def test_a_diary_without_entries_passes_to_the_other_persona(self, serving: Serving):
        async with serving(ADAPTER) as api:
            for entry in await api.ids():
                await api.client.delete(f"{ENTRIES}/{entry}")
        async with serving(TOMAS) as api:
            await api.write("The dog was a goat, whose dog was it.")
        async with serving(ADAPTER) as api:
            diary = (await api.client.post(CHAT, json=HELLO)).json()["ada"]["diary"]
        assert diary["reason"].startswith("the diary is Tomás's and Ada is served")

    async def test_a_persona_that_was_renamed_keeps_the_diary_by_its_id(self, serving: Serving):
        renamed = replace(ADAPTER, persona=replace(ADAPTER.persona, assistant_name="Ada Byrne", id="ada"))
        async with serving(renamed) as api:
            diary = (await api.client.post(CHAT, json=HELLO)).json()["ada"]["diary"]
        assert diary["status"] == "used"
