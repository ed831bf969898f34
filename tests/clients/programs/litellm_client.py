"""LiteLLM as a client of any OpenAI-compatible server."""

import json
import os
from importlib.metadata import version

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else the price list is fetched
import litellm
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

litellm.suppress_debug_info = True
WHERE = {"api_base": V1, "api_key": KEY, "timeout": 60}
HELLO = [{"role": "user", "content": QUESTION}]


def ask(messages=HELLO, **options):
    options = {
        "model": "openai/ada",
        "max_tokens": FEW,
        "temperature": 0,
        "max_retries": 0,
        **WHERE,
        **options,
    }
    return litellm.completion(messages=messages, **options)


def answer_text(messages=HELLO, **options):
    return ask(messages, **options).choices[0].message.content


@feature
def models():
    assert litellm.get_valid_models(
        check_provider_endpoint=True, custom_llm_provider="openai", api_key=KEY, api_base=V1
    ) == ["ada", "base"]  # fmt: skip


absent("model", "lists models, and retrieves none")


@feature
def whole():
    answer = ask()
    assert answer.choices[0].message.content
    assert answer.usage.completion_tokens == FEW
    assert answer.choices[0].finish_reason == "length"


@feature
def stream():
    assert "".join(chunk.choices[0].delta.content or "" for chunk in ask(stream=True)) == answer_text()


@feature
def stream_usage():
    chunks = list(ask(stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].usage.completion_tokens == FEW


@feature
def system():
    answer = ask([{"role": "system", "content": "Speak of gulls and nothing else."}, *HELLO])
    assert answer.usage.prompt_tokens > ask().usage.prompt_tokens


@feature
def developer():
    text = "Speak of gulls and nothing else."
    answers = [answer_text([{"role": role, "content": text}, *HELLO]) for role in ("developer", "system")]
    assert answers[0] == answers[1]


@feature
def parts():
    assert answer_text([{"role": "user", "content": [{"type": "text", "text": QUESTION}]}]) == answer_text()


@feature
def conversation():
    assert answer_text(
        [*HELLO, {"role": "assistant", "content": "Good."}, {"role": "user", "content": "Why?"}]
    )


@feature
def max_completion_tokens():
    assert ask(max_tokens=None, max_completion_tokens=3).usage.completion_tokens == 3


@feature
def stop():
    text = answer_text()
    assert answer_text(stop=[stopped(text)]) == text.partition(stopped(text))[0]


@feature
def seed():
    assert answer_text(temperature=1.5, seed=7, max_tokens=12) == answer_text(
        temperature=1.5, seed=7, max_tokens=12
    )


@feature
def n():
    assert len(ask(n=3, temperature=1).choices) == 3


@feature
def logprobs():
    tokens = ask(logprobs=True, top_logprobs=3).choices[0].logprobs.content
    assert len(tokens) == FEW
    assert all(len(token.top_logprobs) == 3 for token in tokens)


@feature
def json_schema():
    response_format = {
        "type": "json_schema",
        "json_schema": {"name": "place", "schema": SCHEMA, "strict": True},
    }
    fits(json.loads(answer_text(response_format=response_format, max_tokens=60)))


@feature
def thinking():
    message = ask(extra_body=THOUGHT, max_tokens=60).choices[0].message
    return check_thought(message.reasoning_content, message.content)


@feature
def thinking_stream():
    deltas = [chunk.choices[0].delta for chunk in ask(extra_body=THOUGHT, max_tokens=60, stream=True)]
    thought = "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas)
    return check_thought(thought, "".join(delta.content or "" for delta in deltas))


@feature
def ada():
    assert ask(extra_body={"ada": {"diary": False}}).ada["diary"]["status"] == "off"


def complete(**options):
    model = "text-completion-openai/base"
    return litellm.text_completion(model=model, prompt="Once upon a time", max_tokens=FEW, **WHERE, **options)


@feature
def completions():
    assert complete().choices[0].text


@feature
def completions_stream():
    assert "".join(chunk.choices[0].text or "" for chunk in complete(stream=True))


LEAST = 16  # LiteLLM asks for no fewer tokens of a response, as OpenAI does not


def respond(**options):
    return litellm.responses(
        model="openai/ada", input=QUESTION, max_output_tokens=LEAST, temperature=0, **WHERE, **options
    )


@feature
def responses():
    answer = respond()
    assert answer.output[0].content[0].text
    assert answer.usage.output_tokens == LEAST, answer.usage


@feature
def responses_stream():
    kinds = [str(getattr(event.type, "value", event.type)) for event in respond(stream=True)]
    assert "response.output_text.delta" in kinds
    assert kinds[-1] in ("response.completed", "response.incomplete")


@feature
def cancel():
    chunks = ask(stream=True, max_tokens=LONG, extra_body=ENDLESS)
    next(chunks)
    chunks.completion_stream.close()
    return idle()


@feature
def retries():
    return retried(lambda: ask(max_tokens=1, max_retries=3), ask, litellm.RateLimitError)


@feature
def error_key():
    return raised(litellm.AuthenticationError, lambda: ask(api_key=WRONG_KEY), "ncorrect API key")


@feature
def error_model():
    return raised(litellm.NotFoundError, lambda: ask(model="openai/gpt-9"), "gpt-9")


@feature
def error_image():
    picture = {"type": "image_url", "image_url": {"url": PIXEL}}
    return raised(
        litellm.BadRequestError,
        lambda: ask([{"role": "user", "content": [picture]}]),
        "messages[0].content[0]",
    )


@feature
def error_tools():
    return raised(litellm.BadRequestError, lambda: ask(tools=[TOOL], tool_choice="required"), "tool_choice")


@feature
def tools():
    assert ask(tools=[TOOL], tool_choice="auto").choices[0].message.content


@feature
def error_embeddings():
    # It takes every `invalid_request_error` that it does not know for a 400.
    return raised(
        litellm.BadRequestError,
        lambda: litellm.embedding("openai/ada", ["Hello"], **WHERE),
        "Error code: 404",
    )


report("LiteLLM", version("litellm"))
