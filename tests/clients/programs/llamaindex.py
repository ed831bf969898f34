"""LlamaIndex's OpenAILike."""

import json
from importlib.metadata import version

import openai
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, MessageRole
from llama_index.llms.openai_like import OpenAILike
from reporting import (
    ENDLESS,
    FEW,
    KEY,
    LONG,
    PIXEL,
    QUESTION,
    SCHEMA,
    THOUGHT,
    TOOL,
    V1,
    WRONG_KEY,
    absent,
    check_thought,
    feature,
    fits,
    idle,
    raised,
    report,
    retried,
    stopped,
)  # fmt: skip

HELLO = [ChatMessage(QUESTION)]


def chat(**options):
    options = {"model": "ada", "max_tokens": FEW, "temperature": 0, "max_retries": 0, **options}
    return OpenAILike(api_base=V1, api_key=KEY, is_chat_model=True, timeout=60, **options)


def answer_text(messages=HELLO, **options):
    return chat().chat(messages, **options).message.content


def completing():
    return OpenAILike(api_base=V1, api_key=KEY, model="base", max_tokens=FEW, is_chat_model=False)


def blocks(message, kind):
    return "".join(
        getattr(block, "content", None) or getattr(block, "text", "")
        for block in message.blocks
        if block.block_type == kind
    )


@feature
def whole():
    answer = chat().chat(HELLO)
    assert answer.message.content
    assert answer.raw.usage.completion_tokens == FEW


@feature
def stream():
    assert "".join(piece.delta or "" for piece in chat().stream_chat(HELLO)) == answer_text()


@feature
def stream_usage():
    pieces = list(chat().stream_chat(HELLO, stream_options={"include_usage": True}))
    assert pieces[-1].raw.usage.completion_tokens == FEW


@feature
def system():
    gulls = ChatMessage("Speak of gulls and nothing else.", role=MessageRole.SYSTEM)
    answers = [chat().chat(messages).raw.usage.prompt_tokens for messages in ([gulls, *HELLO], HELLO)]
    assert answers[0] > answers[1]


@feature
def developer():
    text = "Speak of gulls and nothing else."
    roles = (MessageRole.DEVELOPER, MessageRole.SYSTEM)
    answers = [answer_text([ChatMessage(text, role=role), *HELLO]) for role in roles]
    assert answers[0] == answers[1]


@feature
def conversation():
    assert answer_text([*HELLO, ChatMessage("Good.", role=MessageRole.ASSISTANT), ChatMessage("Why?")])


@feature
def max_completion_tokens():
    model = chat(max_tokens=None, additional_kwargs={"max_completion_tokens": 3})
    assert model.chat(HELLO).raw.usage.completion_tokens == 3


@feature
def stop():
    text = answer_text()
    assert answer_text(stop=[stopped(text)]) == text.partition(stopped(text))[0]


@feature
def seed():
    model = chat(temperature=1.5, max_tokens=12, additional_kwargs={"seed": 7})
    assert model.chat(HELLO).message.content == model.chat(HELLO).message.content


@feature
def n():
    assert len(chat(temperature=1).chat(HELLO, n=3).raw.choices) == 3


@feature
def logprobs():
    logprobs = chat(logprobs=True, top_logprobs=3).chat(HELLO).logprobs
    assert len(logprobs) == FEW
    assert all(len(tokens) == 3 for tokens in logprobs)


@feature
def json_schema():
    response_format = {
        "type": "json_schema",
        "json_schema": {"name": "place", "schema": SCHEMA, "strict": True},
    }
    fits(json.loads(chat(max_tokens=60).chat(HELLO, response_format=response_format).message.content))


@feature
def thinking():
    message = chat(max_tokens=60).chat(HELLO, extra_body=THOUGHT).message
    return check_thought(blocks(message, "thinking"), blocks(message, "text"))


@feature
def thinking_stream():
    *_, last = chat(max_tokens=60).stream_chat(HELLO, extra_body=THOUGHT)
    return check_thought(blocks(last.message, "thinking"), blocks(last.message, "text"))


@feature
def ada():
    answer = chat().chat(HELLO, extra_body={"ada": {"diary": False}})
    assert answer.raw.ada["diary"]["status"] == "off"


@feature
def completions():
    assert completing().complete("Once upon a time").text


@feature
def completions_stream():
    assert "".join(piece.delta for piece in completing().stream_complete("Once upon a time"))


@feature
def cancel():
    pieces = chat(max_tokens=LONG).stream_chat(HELLO, extra_body=ENDLESS)
    next(pieces)
    pieces.close()
    del pieces
    return idle()


@feature
def retries():
    patient = chat(max_retries=3, max_tokens=1)
    return retried(lambda: patient.chat(HELLO), lambda: chat().chat(HELLO), openai.RateLimitError)


@feature
def error_key():
    stranger = OpenAILike(api_base=V1, api_key=WRONG_KEY, model="ada", is_chat_model=True, max_retries=0)
    return raised(openai.AuthenticationError, lambda: stranger.chat(HELLO), "invalid_api_key")


@feature
def error_model():
    return raised(openai.NotFoundError, lambda: chat(model="gpt-9").chat(HELLO), "model_not_found")


@feature
def error_image():
    picture = ChatMessage(blocks=[ImageBlock(url=PIXEL)])
    return raised(openai.BadRequestError, lambda: chat().chat([picture]), "messages[0].content[0]")


@feature
def error_tools():
    demanded = {"tools": [TOOL], "tool_choice": "required"}
    return raised(openai.BadRequestError, lambda: chat().chat(HELLO, **demanded), "tool_choice")


@feature
def tools():
    assert chat().chat(HELLO, tools=[TOOL]).message.content


absent("models", "OpenAILike lists no models")
absent("model", "OpenAILike lists no models")
absent("parts", "joins text blocks into one text")
absent("responses", "OpenAILike speaks chat and completions")
absent("responses_stream", "OpenAILike speaks chat and completions")
absent("error_embeddings", "another package")
report("LlamaIndex", version("llama-index-llms-openai-like"))
