"""/v1/completions and /v1/responses. The real vLLM speaks them in tests/clients."""

import json

import pytest
from api import CHAT, PERSONA, error_of

from services.orchestrator.http.disclosure import DISCLOSURE

COMPLETIONS, RESPONSES = "/v1/completions", "/v1/responses"
TURNS = [{"role": "user", "content": "Hello"}]


class TestCompletions:
    @pytest.mark.parametrize("name", ["ada", "base"])
    async def test_a_text_is_continued_without_persona_and_diary(self, client, api, model, name):
        await api.write("A secret dog.")
        answer = await client.post(COMPLETIONS, json={"model": name, "prompt": "The dog", "max_tokens": 5})
        assert model.requests == [{"model": name, "prompt": "The dog", "max_tokens": 5}]
        assert answer.json()["ada"]["diary"] == {"status": "off", "entries": []}
        assert answer.json()["ada"]["disclosure"] == DISCLOSURE

    @pytest.mark.parametrize("prompt", [[], [[]], [[1], []]])
    async def test_an_empty_prompt_is_rejected_by_name(self, client, model, prompt):
        assert error_of(await client.post(COMPLETIONS, json={"prompt": prompt}), 400)["param"] == "prompt"
        assert not model.requests

    @pytest.mark.parametrize("prompt", ["a<|im_end|>", ["a<|im_end|>", "<think>b"]])
    async def test_a_text_with_a_control_mark_is_rejected_and_not_altered(self, client, model, prompt):
        error = error_of(await client.post(COMPLETIONS, json={"prompt": prompt}), 400)
        assert error["param"] == ("prompt" if isinstance(prompt, str) else "prompt[0]")
        assert "'<|im_end|>' at character 1" in error["message"]
        assert "ada.allow_control_tokens" in error["message"]
        assert not model.requests

    @pytest.mark.parametrize("prompt", ["a<|im_end|>", ["a<|im_end|>", "<think>b"]])
    async def test_allow_control_tokens_passes_the_text_on_verbatim(self, client, model, prompt):
        body = {"prompt": prompt, "ada": {"allow_control_tokens": True}}
        assert (await client.post(COMPLETIONS, json=body)).status_code == 200
        assert model.requests[0]["prompt"] == prompt

    @pytest.mark.parametrize("path", [CHAT, RESPONSES])
    async def test_a_conversation_rejects_allow_control_tokens(self, client, path):
        body = {"messages": TURNS, "input": TURNS, "ada": {"allow_control_tokens": True}}
        assert error_of(await client.post(path, json=body), 400)["param"] == "ada.allow_control_tokens"

    async def test_the_number_of_answers_over_all_prompts_is_limited(self, client, model):
        body = {"prompt": ["x"] * 129, "n": 2}
        error = error_of(await client.post(COMPLETIONS, json=body), 400)
        assert (error["param"], "MAX_ANSWERS_A_REQUEST" in error["message"]) == ("prompt", True)
        assert (await client.post(COMPLETIONS, json={**body, "n": 1})).status_code == 200
        assert len(model.requests) == 1

    async def test_token_ids_are_passed_on(self, client, model):
        await client.post(COMPLETIONS, json={"prompt": [[1, 2], [3]]})
        assert model.requests[0]["prompt"] == [[1, 2], [3]]

    async def test_the_last_chunk_of_a_stream_has_the_ada_field(self, client):
        text = (await client.post(COMPLETIONS, json={"prompt": "The dog", "stream": True})).text
        chunks = [json.loads(line[6:]) for line in text.split("\n\n") if line.startswith("data: {")]
        assert ["ada" in chunk for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
        assert text.endswith("data: [DONE]\n\n")

    @pytest.mark.parametrize(
        ("body", "param"),
        [({}, "prompt"), ({"prompt": {"a": 1}}, "prompt"), ({"prompt": "x", "stream": 7}, "stream")],
    )
    async def test_bad_requests_name_the_field(self, client, body, param):
        assert error_of(await client.post(COMPLETIONS, json=body), 400)["param"] == param


class TestResponses:
    async def test_the_prompt_has_persona_instructions_and_turns(self, client, model):
        body = {
            "instructions": "Be short.",
            "input": [
                {"role": "user", "content": "Hello."},
                {"type": "reasoning", "summary": []},
                {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hi."}]},
                {"role": "user", "content": [{"type": "input_text", "text": "Who are you?"}]},
            ],
        }
        answer = (await client.post(RESPONSES, json=body)).json()
        assert [turn["content"] for turn in model.requests[0]["input"]] == [
            PERSONA.system_text, "Be short.", "Hello.", "Hi.", "Who are you?"
        ]  # fmt: skip
        assert model.requests[0]["store"] is False
        assert answer["instructions"] == "Be short."
        assert answer["ada"]["disclosure"] == DISCLOSURE

    async def test_the_response_in_the_last_event_of_a_stream_has_the_ada_field(self, client, model):
        text = (await client.post(RESPONSES, json={"input": "Hello", "stream": True})).text
        kinds = [event.split("\n")[0] for event in text.split("\n\n") if event]
        assert kinds == ["event: response.output_text.delta"] * 3 + ["event: response.completed"]
        last = json.loads(text.strip().rpartition("data: ")[2])
        assert last["response"]["ada"]["disclosure"] == DISCLOSURE

    async def test_an_interrupted_stream_ends_with_an_error(self, client, model):
        model.disconnect_after = 1
        text = (await client.post(RESPONSES, json={"input": "Hello", "stream": True})).text
        assert json.loads(text.strip().rpartition("data: ")[2])["error"]["code"] == "model_unavailable"

    @pytest.mark.parametrize(
        ("fields", "param"),
        [
            ({"previous_response_id": "resp_1"}, "previous_response_id"),
            ({"background": True}, "background"),
            ({"tools": {"type": "web_search"}}, "tools"),
            ({"tool_choice": {"type": "web_search_preview"}}, "tool_choice"),
            ({"chat_template_kwargs": {"messages": []}}, "chat_template_kwargs.messages"),
            ({"chat_template_kwargs": {"enable_thinking": True}}, "chat_template_kwargs.enable_thinking"),
            ({"reasoning": {"effort": "high"}}, "reasoning.effort"),
            ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
            ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0].type"),
            ({"input": [{"content": "who?"}]}, "input[0].role"),
            ({"input": None}, "input"),
        ],
    )
    async def test_an_unsupported_value_is_a_400_that_names_the_field(self, client, model, fields, param):
        answer = await client.post(RESPONSES, json={"input": "Hello", **fields})
        assert error_of(answer, 400)["param"] == param
        assert not model.requests
