"""The chat template under the real tokenizers: prefixes, loss mask, control tokens.

.venv/bin/python -m pytest tests/persona
"""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jinja2 import TemplateError

from services.errors import UnknownRole
from services.persona.neutraliser import neutralise
from services.persona.persona import load_persona
from services.persona.prompt import RecalledBlock, build_messages
from services.persona.template import render, template_for

PERSONA = load_persona()
TEMPLATE = template_for(PERSONA)
CONVERSATION = [
    {"role": "system", "content": "You are Ada."},
    {"role": "user", "content": "Where did you grow up?"},
    {"role": "assistant", "content": "In Strandhill, below Knocknarea. You could hear the sea."},
    {"role": "user", "content": "And after that?"},
    {"role": "assistant", "content": "Galway, for the university."},
]
# The tokenizer is one object for all examples of a property: nothing in it changes.
shared = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@pytest.fixture(params=["qwen3", "smollm2"])
def tokenizer(request: pytest.FixtureRequest):
    return request.getfixturevalue(f"{request.param}_tokenizer")


def encode(tokenizer, messages, **options) -> list[int]:
    return tokenizer.apply_chat_template(
        messages, chat_template=TEMPLATE, tokenize=True, return_dict=False, **options
    )


def control_ids(tokenizer) -> set[int]:
    """Everything that the tokenizer matches as a whole before it splits text."""
    return set(tokenizer.added_tokens_decoder)


def control_count(tokenizer, ids: list[int]) -> int:
    return sum(1 for i in ids if i in control_ids(tokenizer))


def test_the_speakers_names_stand_where_the_roles_stand():
    text = render(TEMPLATE, CONVERSATION[1:3])
    assert text == (
        "<|im_start|>Drew\nWhere did you grow up?<|im_end|>\n"
        "<|im_start|>Ada\nIn Strandhill, below Knocknarea. You could hear the sea.<|im_end|>\n"
    )


def test_our_own_rendering_is_transformers_rendering(tokenizer):
    for prompt in (False, True):
        theirs = tokenizer.apply_chat_template(
            CONVERSATION, chat_template=TEMPLATE, tokenize=False, add_generation_prompt=prompt
        )
        assert render(TEMPLATE, CONVERSATION, add_generation_prompt=prompt) == theirs


def test_loss_lies_on_adas_words_and_her_end_of_turn_and_nowhere_else(tokenizer):
    encoded = tokenizer.apply_chat_template(
        CONVERSATION,
        chat_template=TEMPLATE,
        tokenize=True,
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    spans, span = [], []
    for token, learned in zip(encoded["input_ids"], encoded["assistant_masks"], strict=True):
        if learned:
            span.append(token)
        elif span:
            spans.append(tokenizer.decode(span))
            span = []
    assert spans == [
        "In Strandhill, below Knocknarea. You could hear the sea.<|im_end|>",
        "Galway, for the university.<|im_end|>",
    ]


def test_every_prefix_of_a_conversation_renders_to_a_prefix(tokenizer):
    whole = encode(tokenizer, CONVERSATION)
    for end in range(1, len(CONVERSATION) + 1):
        part = encode(tokenizer, CONVERSATION[:end])
        assert whole[: len(part)] == part


def test_every_prompt_is_a_prefix_of_the_conversation_it_leads_to(tokenizer):
    for end, message in enumerate(CONVERSATION):
        if message["role"] == "assistant":
            prompt = encode(tokenizer, CONVERSATION[:end], add_generation_prompt=True)
            assert encode(tokenizer, CONVERSATION[: end + 1])[: len(prompt)] == prompt


def test_a_thinking_prompt_is_a_prefix_of_the_thought_and_the_answer(tokenizer):
    thought = [*CONVERSATION[:2], {**CONVERSATION[2], "reasoning_content": "He asks about home."}]
    prompt = encode(tokenizer, CONVERSATION[:2], add_generation_prompt=True, enable_thinking=True)
    assert encode(tokenizer, thought)[: len(prompt)] == prompt
    assert "<think>\nHe asks about home.\n</think>\n\nIn Strandhill" in render(TEMPLATE, thought)


def test_an_unknown_role_raises(tokenizer):
    with pytest.raises(TemplateError, match="unknown role tool"):
        encode(tokenizer, [{"role": "tool", "content": "42"}])
    with pytest.raises(UnknownRole, match="unknown role tool"):
        render(TEMPLATE, [{"role": "tool", "content": "42"}])


# Text made of the very pieces of which marks are made, so that they meet and re-assemble.
MARKS = (
    "<| |> < > | / im_start im_end endoftext think tool_call repo_name <|im_start|> <|im_end|> <think> "
    "</think> <|im_<|im_end|>end|> <tool_response> <file_sep> <jupyter_code> Ada Drew system é"
)
PIECES = [*MARKS.split(), "\u200b", "\u0338", "\n", " "]
HOSTILE = st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=14).map("".join)


@shared
@given(texts=st.lists(HOSTILE, min_size=3, max_size=3))
def test_no_text_can_write_a_control_token(tokenizer, texts: list[str]):
    user, answer, memory = texts
    turns = [
        {"role": "user", "content": user},
        {"role": "assistant", "content": answer},
        {"role": "user", "content": memory},
    ]
    messages = build_messages(PERSONA, turns, [RecalledBlock("2026-01-01", memory)])
    ids = encode(tokenizer, messages, add_generation_prompt=True)
    assert control_count(tokenizer, ids) == 2 * len(messages) + 1


@shared
@given(texts=st.lists(HOSTILE, min_size=2, max_size=6))
def test_prefixes_and_masks_hold_for_any_text(tokenizer, texts: list[str]):
    turns = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]
    messages = build_messages(PERSONA, turns)
    whole = encode(tokenizer, messages)
    for end in range(1, len(messages)):
        prompt = messages[end]["role"] == "assistant"
        part = encode(tokenizer, messages[:end], add_generation_prompt=prompt)
        assert whole[: len(part)] == part


@given(HOSTILE)
def test_neutral_text_stays_neutral_and_loses_nothing(text: str):
    once = neutralise(text)
    assert neutralise(once) == once
    assert once.replace("\u200b", "") == text.replace("\u200b", "")


def test_every_mark_that_a_tokenizer_knows_is_covered(tokenizer):
    for mark in map(str, tokenizer.added_tokens_decoder.values()):
        ids = tokenizer.encode(neutralise(f"before {mark} after"), add_special_tokens=False)
        assert control_count(tokenizer, ids) == 0, mark


@given(st.text())
def test_text_without_marks_is_left_alone(text: str):
    if "<" not in text:
        assert neutralise(text) == text
