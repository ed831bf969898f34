"""Her thoughts and her words, told apart in whatever pieces they come."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.errors import InvalidRequest
from services.orchestrator.openai.reasoning import (
    ReasoningParser,
    ReasoningSplitter,
    split_reasoning,
    wants_thinking,
)

texts = st.text(alphabet="ab <>/think\n", max_size=40)


def split(pieces: list[str], thinking: bool) -> tuple[str, str]:
    splitter = ReasoningSplitter(thinking)
    parts = [*(splitter.feed(piece) for piece in pieces), splitter.finish()]
    return "".join(reasoning for reasoning, _ in parts), "".join(content for _, content in parts)


@pytest.mark.parametrize(
    ("text", "thinking", "reasoning", "content"),
    [
        ("Hello.", False, "", "Hello."),
        ("Hm, a dog.\n</think>\n\nHello.", True, "Hm, a dog.", "Hello."),
        ("<think>\nHm.\n</think>\n\nHello.", False, "Hm.", "Hello."),
        ("cut off in the midd", True, "cut off in the midd", ""),
        ("a < b and </thin air", False, "", "a < b and </thin air"),
        ("I <think> so", False, "", "I <think> so"),
        ("", False, "", ""),
        ("", True, "", ""),
    ],
)
def test_reasoning_ends_at_its_mark(text: str, thinking: bool, reasoning: str, content: str):
    assert split([text], thinking) == (reasoning, content)


@given(text=texts, thinking=st.booleans(), positions=st.lists(st.integers(0, 40), max_size=8))
def test_the_result_does_not_depend_on_the_pieces(text: str, thinking: bool, positions: list[int]):
    bounds = sorted({0, len(text), *(position for position in positions if position < len(text))})
    pieces = [text[start:end] for start, end in pairwise(bounds)]
    whole, parts = split([text], thinking), split(pieces, thinking)
    assert whole[1] == parts[1]
    assert whole[0].rstrip("\n") == parts[0].rstrip("\n")


@given(reasoning=st.text(alphabet="ab <\n", max_size=30), content=st.text(alphabet="ab <>\n", max_size=30))
def test_reasoning_never_becomes_content(reasoning: str, content: str):
    _, result = split(list(f"{reasoning}</think>{content}"), True)
    assert result == content.lstrip("\n")


def test_a_complete_answer_has_its_reasoning_in_a_field_of_its_own():
    answer = {"choices": [{"index": 0, "message": {"content": "Hm.\n</think>\n\nYes.", "reasoning": None}}]}
    split_reasoning(answer, True)
    assert answer["choices"][0]["message"] == {"content": "Yes.", "reasoning_content": "Hm."}


def rewritten(splitter: ReasoningParser, chunk: dict) -> bytes:
    return splitter.rewrite(json.dumps(chunk).encode(), chunk)


def test_each_choice_of_a_stream_is_split_separately():
    splitter = ReasoningParser(True, 2)
    content = {0: "", 1: ""}
    for index, text in [(0, "Hm.</th"), (1, "So."), (0, "ink>Yes."), (1, "</think>No.")]:
        choice = {"index": index, "delta": {"content": text}, "finish_reason": None}
        chunk = json.loads(rewritten(splitter, {"choices": [choice]}))
        content[index] += chunk["choices"][0]["delta"].get("content", "")
    assert content == {0: "Yes.", 1: "No."}
    assert splitter.settled


def test_an_answer_without_reasoning_is_settled_with_its_first_word():
    splitter = ReasoningParser(False, 1)
    for text in ("", "Hello"):
        assert not splitter.settled
        rewritten(splitter, {"choices": [{"index": 0, "delta": {"content": text}}]})
    assert splitter.settled


@pytest.mark.parametrize(
    ("kwargs", "effort", "wanted"),
    [
        (None, None, False),
        ({"enable_thinking": True}, None, True),
        (None, "high", True),
        (None, "none", False),
        (None, "minimal", False),
        ({"enable_thinking": False}, "high", False),
    ],
)
def test_reasoning_is_requested_in_two_ways(kwargs, effort, wanted):
    assert wants_thinking(kwargs, effort) is wanted


@pytest.mark.parametrize("kwargs", [{"enable_thinking": "yes"}, {"messages": []}])
def test_other_arguments_of_the_template_are_rejected_by_name(kwargs):
    with pytest.raises(InvalidRequest) as error:
        wants_thinking(kwargs, None)
    assert error.value.param == f"chat_template_kwargs.{next(iter(kwargs))}"
