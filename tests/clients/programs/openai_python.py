"""OpenAI's own client for Python."""

import json

import openai
from openai import OpenAI
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
    check_thought,
    feature,
    fits,
    idle,
    raised,
    report,
    retried,
    stopped,
)  # fmt: skip

client = OpenAI(base_url=V1, api_key=KEY, max_retries=0, timeout=60)
HELLO = [{"role": "user", "content": QUESTION}]


def ask(messages=HELLO, **options):
    options = {"max_tokens": FEW, "temperature": 0, **options}
    return client.chat.completions.create(model=options.pop("model", "ada"), messages=messages, **options)


def answer_text(messages=HELLO, **options):
    return ask(messages, **options).choices[0].message.content


@feature
def models():
    assert [model.id for model in client.models.list()] == ["ada", "base"]


@feature
def model():
    model = client.models.retrieve("ada")
    assert (model.id, model.object) == ("ada", "model")


@feature
def whole():
    answer = ask()
    assert answer.choices[0].message.content
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == FEW
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + FEW


@feature
def stream():
    chunks = list(ask(stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == answer_text()
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "length"
    assert not any(chunk.usage for chunk in chunks)


@feature
def stream_usage():
    chunks = list(ask(stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].usage.completion_tokens == FEW
    assert chunks[-1].choices == []


@feature
def system():
    with_system = ask([{"role": "system", "content": "Speak of gulls and nothing else."}, *HELLO])
    assert with_system.choices[0].message.content
    assert with_system.usage.prompt_tokens > ask().usage.prompt_tokens


@feature
def developer():
    text = "Speak of gulls and nothing else."
    answers = [ask([{"role": role, "content": text}, *HELLO]) for role in ("developer", "system")]
    assert answers[0].usage == answers[1].usage
    assert answers[0].choices[0].message.content == answers[1].choices[0].message.content


@feature
def parts():
    assert answer_text([{"role": "user", "content": [{"type": "text", "text": QUESTION}]}]) == answer_text()


@feature
def conversation():
    turns = [*HELLO, {"role": "assistant", "content": "Good."}, {"role": "user", "content": "Why?"}]
    assert answer_text(turns)


@feature
def max_completion_tokens():
    answer = ask(max_tokens=openai.omit, max_completion_tokens=3)
    assert answer.usage.completion_tokens == 3


@feature
def stop():
    text = answer_text()
    answer = ask(stop=[stopped(text)])
    assert answer.choices[0].message.content == text.partition(stopped(text))[0]
    assert answer.choices[0].finish_reason == "stop"


@feature
def seed():
    assert answer_text(temperature=1.5, seed=7, max_tokens=12) == answer_text(
        temperature=1.5, seed=7, max_tokens=12
    )


@feature
def n():
    assert [choice.index for choice in ask(n=3, temperature=1).choices] == [0, 1, 2]
    chunks = list(ask(n=2, temperature=1, stream=True))
    assert {choice.index for chunk in chunks for choice in chunk.choices} == {0, 1}


@feature
def logprobs():
    tokens = ask(logprobs=True, top_logprobs=3).choices[0].logprobs.content
    assert len(tokens) == FEW
    assert all(len(token.top_logprobs) == 3 and token.logprob <= 0 for token in tokens)


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
    answer = ask(extra_body={"ada": {"diary": False}})
    assert answer.ada["diary"]["status"] == "off"
    assert "AI persona" in answer.ada["disclosure"]
    raw = client.chat.completions.with_raw_response.create(model="ada", messages=HELLO, max_tokens=1)
    assert "machine-generated" in raw.headers["AI-Disclosure"]


@feature
def completions():
    answer = client.completions.create(model="base", prompt="Once upon a time", max_tokens=FEW, temperature=0)
    assert answer.choices[0].text
    assert answer.usage.completion_tokens == FEW


@feature
def completions_stream():
    chunks = list(client.completions.create(model="base", prompt="Once", max_tokens=FEW, stream=True))
    assert "".join(choice.text for chunk in chunks for choice in chunk.choices)


@feature
def responses():
    answer = client.responses.create(model="ada", input=QUESTION, max_output_tokens=FEW, temperature=0)
    assert answer.output_text
    assert answer.usage.output_tokens == FEW
    assert answer.status == "incomplete"
    turns = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": QUESTION}]
    assert client.responses.create(model="ada", input=turns, max_output_tokens=FEW).output_text


@feature
def responses_stream():
    text_format = {"format": {"type": "json_schema", "name": "place", "schema": SCHEMA, "strict": True}}
    body = {"model": "ada", "input": QUESTION, "max_output_tokens": 60, "temperature": 0}
    with client.responses.stream(**body, text=text_format) as events:
        kinds = [event.type for event in events]
        answer = events.get_final_response()
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert "response.output_text.delta" in kinds
    fits(json.loads(answer.output_text))


@feature
def cancel():
    events = ask(stream=True, max_tokens=LONG, extra_body=ENDLESS)
    next(iter(events))
    events.close()
    return idle()


@feature
def retries():
    patient = client.with_options(max_retries=3).chat.completions
    return retried(
        lambda: patient.create(model="ada", messages=HELLO, max_tokens=1), ask, openai.RateLimitError
    )


@feature
def error_key():
    stranger = client.with_options(api_key=WRONG_KEY)
    return raised(openai.AuthenticationError, stranger.models.list, "invalid_api_key")


@feature
def error_model():
    return raised(openai.NotFoundError, lambda: ask(model="gpt-9"), "model_not_found")


@feature
def error_image():
    picture = {"type": "image_url", "image_url": {"url": PIXEL}}
    return raised(
        openai.BadRequestError,
        lambda: ask([{"role": "user", "content": [picture]}]),
        "messages[0].content[0]",
    )


@feature
def error_tools():
    demanded = {"tools": [TOOL], "tool_choice": "required"}
    return raised(openai.BadRequestError, lambda: ask(**demanded), "tool_choice", "unsupported_parameter")


@feature
def tools():
    answer = ask(tools=[TOOL], tool_choice="auto", parallel_tool_calls=True)
    assert answer.choices[0].message.content
    assert answer.model_extra["ada"]["ignored"] == ["tools"]


@feature
def error_embeddings():
    return raised(openai.NotFoundError, lambda: client.embeddings.create(model="ada", input="Hello"))


report("openai-python", openai.__version__)
