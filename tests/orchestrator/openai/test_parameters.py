"""What clients send by habit: set aside and told, and refused only where it asks for what Ada can't do."""

import json

import pytest
from api import CHAT, HELLO, error_of

from services.errors import InvalidRequest, UpstreamError
from services.orchestrator.openai.messages import parse_conversation
from services.orchestrator.openai.parameters import passthrough_parameters
from services.orchestrator.openai.schemas import ChatMessage
from services.orchestrator.vllm.errors import readable_error

RESPONSES = "/v1/responses"
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CALL = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}


class TestTools:
    @pytest.mark.parametrize(
        "choice",
        [
            {},
            {"tool_choice": "auto"},
            {"tool_choice": "none"},
            {"tool_choice": None},
            {"tool_choice": {"type": "auto"}},
            {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}},
            {"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": []}},
            {"parallel_tool_calls": True, "max_tool_calls": 3},
        ],
    )
    def test_tools_are_ignored_unless_a_choice_requires_one(self, choice):
        parameters = passthrough_parameters({"tools": [TOOL] * 36, **choice})
        assert parameters.fields == {}
        assert parameters.ignored == ("tools",)

    @pytest.mark.parametrize(
        "choice",
        [
            {"tool_choice": "required"},
            {"tool_choice": "any"},
            {"tool_choice": {"type": "function", "function": {"name": "weather"}}},
            {"tool_choice": {"type": "function", "name": "weather"}},
            {"tool_choice": {"type": "custom", "custom": {"name": "x"}}},
            {"tool_choice": {"type": "web_search_preview"}},
            {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": []}}},
            {"tool_choice": {"type": "allowed_tools", "mode": "required"}},
            {"function_call": {"name": "weather"}},
        ],
    )
    def test_a_choice_that_requires_a_tool_is_rejected_by_name(self, choice):
        with pytest.raises(InvalidRequest) as raised:
            passthrough_parameters({"tools": [TOOL], "functions": [TOOL["function"]], **choice})
        assert raised.value.param == next(iter(choice))
        assert raised.value.code == "unsupported_parameter"

    @pytest.mark.parametrize("choice", ["auto", "none", None, {}, False])
    def test_functions_are_treated_like_tools(self, choice):
        parameters = passthrough_parameters({"functions": [TOOL["function"]], "function_call": choice})
        assert (parameters.fields, parameters.ignored) == ({}, ("functions",))

    @pytest.mark.parametrize("stream", [True, False])
    @pytest.mark.parametrize(("path", "tools"), [(CHAT, [TOOL] * 36), (RESPONSES, [{"type": "web_search"}])])
    async def test_ignored_tools_are_reported_and_counted(self, client, model, path, tools, stream):
        body = {"messages": HELLO["messages"], "input": "Hello", "tools": tools, "stream": stream}
        body |= {"tool_choice": "auto", "parallel_tool_calls": True}
        answer = await client.post(path, json=body)
        events = [json.loads(line[6:]) for line in answer.text.split("\n") if line.startswith("data: {")]
        result = events[-1].get("response", events[-1]) if stream else answer.json()
        assert result["ada"]["ignored"] == ["tools"]
        assert not {"tools", "tool_choice", "parallel_tool_calls"} & set(model.requests[0])
        metrics = (await client.get("/metrics")).text
        assert 'ada_ignored_fields_total{field="tools"} 1.0' in metrics

    async def test_without_ignored_fields_there_is_no_report_of_them(self, client):
        assert "ignored" not in (await client.post(CHAT, json={**HELLO, "tools": []})).json()["ada"]


class TestConversationsWithAnotherModel:
    PAST = [
        {"role": "user", "content": "Is it raining?"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "1", "content": "yes"},
        {"role": "assistant", "content": "It is.", "tool_calls": [CALL], "reasoning_content": "So."},
        {"role": "user", "content": "And who are you?", "name": "tom"},
    ]  # fmt: skip

    async def test_past_tool_calls_are_ignored(self, client, model):
        answer = (await client.post(CHAT, json={"messages": self.PAST})).json()
        texts = [turn["content"] for turn in model.requests[0]["messages"][1:]]
        assert texts == ["Is it raining?", "It is.", "And who are you?"]
        assert answer["ada"]["ignored"] == [
            "messages[].tool_calls", "messages[].tool", "messages[].reasoning_content", "messages[].name"
        ]  # fmt: skip

    async def test_past_tool_items_of_a_response_are_ignored(self, client, model):
        items = [
            {"role": "user", "content": "Is it raining?"},
            {"type": "reasoning", "summary": []},
            {"type": "function_call", "call_id": "1", "name": "weather", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "1", "output": "yes"},
            {"type": "web_search_call", "id": "x", "status": "completed"},
            {"role": "user", "content": "And who are you?"},
        ]
        answer = (await client.post(RESPONSES, json={"input": items, "store": True})).json()
        assert [turn["content"] for turn in model.requests[0]["input"][1:]] == [
            "Is it raining?",
            "And who are you?",
        ]
        assert answer["ada"]["ignored"] == ["store", "input[].reasoning", "input[].tool_items"]

    @pytest.mark.parametrize(
        ("end", "param"),
        [
            ([{"role": "tool", "tool_call_id": "1", "content": "yes"}], "messages[1].role"),
            ([{"role": "assistant", "content": "x", "tool_calls": [CALL]}], "messages[1].tool_calls"),
            (
                [{"role": "assistant", "content": None, "function_call": {"name": "x"}}],
                "messages[1].function_call",
            ),
        ],
    )
    def test_a_tool_result_that_the_answer_would_depend_on_is_rejected(self, end, param):
        messages = [ChatMessage.model_validate(message) for message in [self.PAST[0], *end]]
        with pytest.raises(Exception, match=param.replace("[", r"\[")) as raised:
            parse_conversation(messages)
        assert raised.value.param == param

    def test_an_unknown_role_is_rejected_by_its_path(self):
        messages = [*self.PAST, {"role": "narrator", "content": "x"}]
        with pytest.raises(Exception, match="narrator") as raised:
            parse_conversation([ChatMessage.model_validate(message) for message in messages])
        assert raised.value.param == "messages[5].role"

    def test_a_refusal_is_read_as_the_text(self):
        turns = parse_conversation(
            [ChatMessage(role="assistant", content=None, refusal="I'd rather not.")]
        ).turns
        assert turns == [{"role": "assistant", "content": "I'd rather not."}]


class TestOtherFields:
    def test_fields_for_a_platform_with_accounts_are_dropped(self):
        fields = {
            "user": {"name": "Tom"}, "safety_identifier": "s", "prompt_cache_key": "k", "service_tier": "x",
            "prompt_cache_retention": "24h", "modalities": ["text"], "store": False, "prediction": None,
        }  # fmt: skip
        parameters = passthrough_parameters(
            {**fields, "response_format": {"type": "text"}, "metadata": {"a": "b"}}
        )
        assert set(parameters.fields) == {"modalities", "response_format", "metadata"}
        assert parameters.ignored == ()

    def test_ignored_fields_that_might_have_changed_the_answer_are_reported(self):
        fields = {
            "web_search_options": {},
            "prediction": {"type": "content"},
            "verbosity": "low",
            "store": True,
        }
        assert set(passthrough_parameters(fields).ignored) == set(fields)
        assert passthrough_parameters(fields).fields == {}

    async def test_a_null_ada_field_means_the_defaults(self, client):
        assert (await client.post(CHAT, json={**HELLO, "ada": None})).json()["ada"]["diary"][
            "status"
        ] == "empty"

    async def test_reasoning_may_be_disabled_explicitly(self, client):
        for fields in (
            {"reasoning": {"effort": "none"}},
            {"chat_template_kwargs": {"enable_thinking": False}},
        ):
            answer = await client.post(RESPONSES, json={"input": "Hello", **fields})
            assert answer.status_code == 200

    async def test_whitespace_around_a_prefill_is_reported_as_ignored(self, client):
        turns = [*HELLO["messages"], {"role": "assistant", "content": "I grew up in "}]
        body = {"messages": turns, "continue_final_message": True, "add_generation_prompt": False}
        assert (await client.post(CHAT, json=body)).json()["ada"]["ignored"] == ["prefill_whitespace"]

    async def test_control_marks_in_messages_are_neutralized_and_counted(self, client, model):
        turns = [
            {"role": "system", "content": "<|im_end|>"},
            {"role": "user", "content": "<think> </think> <b>"},
        ]
        for body in ({"messages": turns}, {"messages": turns, "model": "base"}):
            assert (await client.post(CHAT, json=body)).json()["ada"]["neutralized"] == 3
            assert "<|im" not in json.dumps(model.requests[-1]["messages"])
        assert "neutralized" not in (await client.post(CHAT, json=HELLO)).json()["ada"]


STOP = (
    "2 validation errors:\n"
    "  {'type': 'string_type', 'loc': 'body.stop', 'msg': 'Input should be a valid string', 'input': '5'}\n"
    "  {'type': 'too_long', 'loc': 'body.stop', "
    "'msg': 'List should have at most 4 items after validation, not 5', 'input': '<list of 5 items>', "
    "'ctx': {'field_type': 'List', 'max_length': 4, 'actual_length': 5}}"
)


class TestErrorsOfTheModelServer:
    @pytest.mark.parametrize(
        ("message", "param", "tidy", "name"),
        [
            (STOP, "body.stop", "stop: List should have at most 4 items after validation, not 5", "stop"),
            (
                "1 validation error:\n  {'type': 'less_than_equal', 'loc': 'body.seed', 'msg': "
                "'Input should be less than or equal to 9', 'input': '...[truncated]",
                "body.seed",
                "seed: Input should be less than or equal to 9",
                "seed",
            ),
            (
                "1 validation error:\n"
                "  {'type': 'literal_error', 'loc': 'body.x', 'msg': \"Input should be 'a'\"}",
                "body.x",
                "x: Input should be 'a'",
                "x",
            ),
            (
                "top_p must be in (0, 1]. (parameter=top_p, value=0.0)",
                "top_p",
                "top_p must be in (0, 1].",
                "top_p",
            ),
            ("stop cannot contain an empty string.", None, "stop cannot contain an empty string.", None),
        ],
    )
    def test_an_error_is_one_readable_line_and_names_the_field_of_the_client(
        self, message, param, tidy, name
    ):
        error = readable_error(
            UpstreamError(400, {"error": {"message": message, "param": param, "code": 400}})
        )
        assert isinstance(error, UpstreamError)
        assert (error.body["error"]["message"], error.body["error"]["param"]) == (tidy, name)

    async def test_too_many_stop_strings_are_rejected_by_name(self, client, model):
        model.error_message = STOP
        error = error_of(await client.post(CHAT, json={**HELLO, "stop": list("abcde")}), 400)
        assert error["param"] == "stop"
        assert error["message"] == "stop: List should have at most 4 items after validation, not 5"
