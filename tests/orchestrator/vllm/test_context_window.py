"""A conversation, its answer and the diary share the model's context: the diary gives way first."""

import json
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import httpx
import pytest
from api import CHAT, HELLO, PERSONA, Api, FakeVllm, error_of

from services.model.vllm_command import GENERATION_DEFAULTS
from services.orchestrator.vllm.context_window import (
    DEFAULT_ANSWER_TOKENS,
    ContextWindow,
    TokenBudget,
    answer_tokens,
)

COMPLETIONS, RESPONSES = "/v1/completions", "/v1/responses"
REGRESSION = Path(__file__).parents[2] / "regressions/diary_overflows_context/conversation.py"


def loaded(path: Path):
    spec = spec_from_file_location(path.stem, path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TALK = loaded(REGRESSION)


async def ask(client: httpx.AsyncClient, path: str, turns: list[dict], *, stream=False, **fields) -> dict:
    """The `ada` of an answer, whole or from its last event."""
    field = "input" if path == RESPONSES else "messages"
    limit = fields.pop("limit", None)
    name = "max_output_tokens" if path == RESPONSES else "max_tokens"
    fields |= {name: limit} if limit is not None else {}
    answer = await client.post(path, json={field: turns, "stream": stream, **fields})
    assert answer.status_code == 200, answer.text
    if not stream:
        return answer.json()["ada"]
    last = [json.loads(line[6:]) for line in answer.text.split("\n") if line.startswith("data: {")][-1]
    return last.get("response", last)["ada"]


def prompt_of(body: dict) -> list[dict]:
    return body.get("messages") or body["input"]


class TestTheDiaryIsShrunk:
    """The regression diary_overflows_context, in bytes for tokens: about 5.3 to one."""

    @pytest.fixture
    def settings(self):
        return {"DIARY_BUDGET_TOKENS": 8000, "DIARY_DEADLINE_S": 5}

    @pytest.fixture
    async def api(self, api: Api) -> Api:
        for entry in TALK.ENTRIES:
            await api.write(**entry)
        return api

    @pytest.mark.parametrize("stream", [True, False])
    @pytest.mark.parametrize("path", [CHAT, RESPONSES])
    async def test_diary_overflows_context(self, client, api, model: FakeVllm, path, stream):
        """It fits by itself, so it is answered, with as much of the diary as there is room for."""
        turns = [*TALK.HISTORY, TALK.QUESTION]
        alone = len(model.tokens({"messages": turns})) + 1000  # and who she is
        model.rejects_long_answers = True
        entry_counts = []
        for room in (9000, 6000, 3500, 1800, 700, 60, 1):
            model.max_model_len = alone + 2700 + room
            api.override(context_window=ContextWindow(api.state.vllm))
            diary = (await ask(client, path, turns, stream=stream, limit=2700))["diary"]
            assert len(model.tokens(model.requests[-1])) + 2700 <= model.max_model_len
            assert diary["status"] == ("used" if diary["entries"] else "no_room")
            assert len(diary["entries"]) + diary.get("left_out", 0) == 6
            entry_counts.append(len(diary["entries"]))
        assert entry_counts == sorted(entry_counts, reverse=True)
        assert entry_counts[0] > 3 > entry_counts[-1]

    @pytest.mark.parametrize("path", [CHAT, RESPONSES])
    async def test_when_no_entry_fits_the_answer_reports_why(self, client, api, model, path):
        model.max_model_len = 1024
        diary = (await ask(client, path, [TALK.QUESTION], limit=500))["diary"]
        assert diary["status"] == "no_room"
        assert diary["entries"] == []
        assert diary["left_out"] == 6
        assert "1024 tokens" in diary["reason"]

    async def test_an_excerpt_of_the_best_entry_is_prompted_when_no_entry_fits(self, client, api, model):
        await api.write(f"{TALK.words(300)}. The Zeppelin was silver. {TALK.words(300)}.", date="2026-11-01")
        model.max_model_len = 2000
        question = {"role": "user", "content": "What colour was the silver Zeppelin?"}
        diary = (await ask(client, CHAT, [question], limit=400))["diary"]
        assert diary["entries"][0]["date"] == "2026-11-01"
        block = prompt_of(model.requests[-1])[1]["content"]
        assert "The Zeppelin was silver." in block
        assert "[…]" in block

    @pytest.mark.parametrize(
        "fields",
        [
            {"max_completion_tokens": 600, "max_tokens": 5},
            {"max_tokens": 600, "n": 3},
            {"max_tokens": 600, "reasoning_effort": "high"},
            {"max_tokens": 600, "continue_final_message": True, "add_generation_prompt": False},
            {},
        ],
    )
    async def test_the_tokens_of_the_answer_are_reserved(self, client, api, model, fields):
        model.max_model_len = 2600
        diary = (await ask(client, CHAT, [TALK.QUESTION], **fields))["diary"]
        answer = 600 if fields else DEFAULT_ANSWER_TOKENS
        assert diary["status"] == "used"
        assert len(model.tokens(model.requests[-1])) + answer <= 2600

    async def test_tokens_are_counted_in_the_prompt_as_it_will_be_rendered(self, client, api, model):
        model.max_model_len = 2600
        tokenized = []
        original = model.tokens
        model.tokens = lambda body: tokenized.append(body) or original(body)
        fields = {"continue_final_message": True, "add_generation_prompt": False, "reasoning_effort": "low"}
        await ask(client, CHAT, [TALK.QUESTION], **fields)
        body = next(body for body in tokenized if "max_tokens" not in body and "messages" in body)
        assert body["continue_final_message"] is True
        assert body["add_generation_prompt"] is False
        assert body["chat_template_kwargs"] == {"enable_thinking": True}

    @pytest.mark.parametrize("stream", [True, False])
    @pytest.mark.parametrize("path", [CHAT, RESPONSES])
    async def test_a_rejected_request_is_sent_again_without_the_diary(self, client, api, model, path, stream):
        model.max_model_len, model.uncounted_tokens = 3000, 1500
        diary = (await ask(client, path, [TALK.QUESTION], stream=stream, limit=50))["diary"]
        assert diary["status"] == "no_room"
        assert [len(prompt_of(body)) for body in model.requests] == [3, 2]

    async def test_a_second_rejection_is_final(self, client, api, model):
        model.error_message = (
            "1 validation error:\n  {'type': 'x', 'loc': 'body.max_tokens', 'msg': 'must be above 0'}"
        )
        for stream in (True, False):
            body = {"messages": [TALK.QUESTION], "max_tokens": 0, "stream": stream}
            error = error_of(await client.post(CHAT, json=body), 400)
            assert (error["message"], error["param"]) == ("max_tokens: must be above 0", "max_tokens")
        assert len(model.requests) == 4

    async def test_an_answer_that_cannot_fit_leaves_room_for_the_diary(self, client, api, model):
        """Clients that send the model's whole length by habit still get answers that remember."""
        model.max_model_len = 4096
        diary = (await ask(client, CHAT, [TALK.QUESTION], limit=4096))["diary"]
        assert diary["status"] == "used"
        assert len(model.tokens(model.requests[-1])) + DEFAULT_ANSWER_TOKENS <= 4096

    async def test_a_short_conversation_is_not_counted(self, client, api, model):
        model.max_model_len = 100_000
        await ask(client, CHAT, [TALK.QUESTION])
        count = len(model.tokenized)
        await ask(client, CHAT, [TALK.QUESTION])
        assert len(model.tokenized) == count


class TestTooLongByItself:
    LONG = [{"role": "user", "content": "word " * 300}]

    @pytest.fixture(autouse=True)
    def small(self, model):
        model.max_model_len = 1024

    @pytest.mark.parametrize("stream", [True, False])
    @pytest.mark.parametrize(("path", "field"), [(CHAT, "messages"), (RESPONSES, "input")])
    @pytest.mark.parametrize("diary", [True, False])
    async def test_a_prompt_that_is_too_long_is_openais_error(self, api, client, path, field, stream, diary):
        await api.write("A word about words.")
        body = {field: self.LONG, "stream": stream, "ada": {"diary": diary}}
        error = error_of(await client.post(path, json=body), 400)
        assert (error["type"], error["code"]) == ("invalid_request_error", "context_length_exceeded")
        assert error["param"] == field
        assert "maximum context length is 1024 tokens" in error["message"]
        assert f"your {field} resulted in" in error["message"]

    async def test_every_wording_of_the_model_server_is_recognized(self, client, model):
        for words in (
            "The engine prompt length 1900 exceeds the max_model_len 1024. Please reduce prompt.",
            "Input length (1900) exceeds model's maximum context length (1024).",
            "The decoder prompt (length 1900) is longer than the maximum model length of 1024.",
            "max_tokens must be at least 1, got 0.",
            "this is more than I can read",
        ):
            model.error_message = words
            error = error_of(await client.post(CHAT, json={"messages": self.LONG}), 400)
            assert error["code"] == "context_length_exceeded"

    async def test_a_prompt_of_a_completion_that_is_too_long_is_the_same_error(self, client):
        for prompt in ("word " * 300, ["a", "word " * 300], [5] * 1024, [[5], [5] * 1100]):
            error = error_of(await client.post(COMPLETIONS, json={"prompt": prompt}), 400)
            assert (error["param"], error["code"]) == ("prompt", "context_length_exceeded")

    async def test_a_rejected_length_of_the_answer_is_named(self, client, model):
        model.rejects_long_answers = True
        body = {**HELLO, "max_tokens": 800}
        error = error_of(await client.post(CHAT, json=body), 400)
        assert error["code"] == "context_length_exceeded"
        assert "800 in the completion" in error["message"]

    async def test_an_answer_longer_than_the_context_is_an_error_of_its_field(self, client):
        error = error_of(await client.post(CHAT, json={**HELLO, "max_tokens": 5000}), 400)
        assert error["code"] != "context_length_exceeded"
        assert "max_tokens=5000" in error["message"]

    async def test_another_error_is_passed_on_unchanged(self, client, model):
        model.error_message = (
            "temperature must be non-negative, got -1.0. (parameter=temperature, value=-1.0)"
        )
        error = error_of(await client.post(CHAT, json=HELLO), 400)
        assert error["message"] == "temperature must be non-negative, got -1.0."

    async def test_a_prompt_that_is_far_too_long_is_not_counted(self, client, model):
        text = "x" * 300_000
        for path, field, messages in (
            (CHAT, "messages", [{"role": "user", "content": text}]),
            (COMPLETIONS, "prompt", text),
        ):
            error = error_of(await client.post(path, json={field: messages}), 400)
            assert error["code"] == "context_length_exceeded"
            assert f"your {field} resulted in at least" in error["message"]
        assert not model.tokenized


class TestTruncation:
    async def test_truncation_drops_the_oldest_turns_but_never_the_persona(self, client, model):
        model.max_model_len = 2000
        turns = [
            {"role": role, "content": f"{n} " + "x" * 200} for n in range(9) for role in ("user", "assistant")
        ]
        items = [{"role": "system", "content": "Be short."}, *turns, {"role": "user", "content": "And now?"}]
        body = {"input": items, "truncation": "auto", "max_output_tokens": 100}
        answer = await client.post(RESPONSES, json=body)
        assert answer.status_code == 200
        assert answer.json()["ada"]["ignored"] == ["input[].oldest_turns"]
        contents = [turn["content"] for turn in model.requests[0]["input"]]
        assert contents[:2] == [PERSONA.system_text, "Be short."]
        assert contents[2:] == [item["content"] for item in items][-len(contents[2:]) :]
        assert len(contents) > 4
        assert "truncation" not in model.requests[0]


class TestTheServedLength:
    async def test_the_models_report_the_length_of_vllm(self, client):
        models = (await client.get("/v1/models")).json()["data"]
        assert [(model["id"], model["max_model_len"]) for model in models] == [("ada", 4096), ("base", 4096)]
        assert (await client.get("/v1/models/base")).json()["max_model_len"] == 4096

    async def test_an_unknown_length_is_left_out(self, client, model):
        model.is_down = True
        models = (await client.get("/v1/models")).json()["data"]
        assert all("max_model_len" not in model for model in models)


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ({}, DEFAULT_ANSWER_TOKENS),
        ({"max_tokens": None}, DEFAULT_ANSWER_TOKENS),
        ({"max_tokens": 7}, 7),
        ({"max_tokens": "7"}, 7),
        ({"max_tokens": 7, "max_completion_tokens": 9}, 9),
        ({"max_output_tokens": 11}, 11),
        ({"max_tokens": "many"}, DEFAULT_ANSWER_TOKENS),
        ({"max_tokens": -5}, 0),
        ({"max_tokens": True}, DEFAULT_ANSWER_TOKENS),
    ],
)
def test_the_requested_length_of_an_answer(body: dict, tokens: int):
    assert answer_tokens(body) == tokens


def test_the_default_length_is_the_one_of_the_model_server():
    assert GENERATION_DEFAULTS["max_new_tokens"] == DEFAULT_ANSWER_TOKENS


def test_the_free_tokens_never_include_those_of_an_answer_that_fits():
    for prompt in range(0, 1100, 50):
        for answer in (1, 100, 512, 900):
            budget = TokenBudget(1024, prompt, answer)
            if prompt + answer <= 1024:
                assert budget.free == 1024 - prompt - answer
            else:
                assert budget.free <= 1024 - prompt - min(answer, DEFAULT_ANSWER_TOKENS)


async def test_the_cache_of_the_counter_is_bounded_in_bytes(api: Api):
    """4,096 texts are remembered by their digests, not by themselves: of 32 KB each they would be 128 MB."""
    counter = api.state.token_counter
    await counter.counts([f"{number} " + "x" * 32_000 for number in range(64)])
    cached = counter._counts
    assert len(cached) == 64
    assert all(len(key) == 16 for key in cached)
