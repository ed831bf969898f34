"""LangChain's ChatOpenAI and OpenAI, of langchain-openai."""

from importlib.metadata import version

import openai
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings
from reporting import (
    ENDLESS,
    FEW,
    KEY,
    LONG,
    PIXEL,
    QUESTION,
    SCHEMA,
    TOOL,
    V1,
    WRONG_KEY,
    absent,
    feature,
    fits,
    idle,
    raised,
    report,
    retried,
    stopped,
)  # fmt: skip

WHERE = {"base_url": V1, "api_key": KEY, "timeout": 60}
HELLO = [HumanMessage(QUESTION)]


def chat(**options):
    return ChatOpenAI(
        **{"model": "ada", "max_retries": 0, "max_tokens": FEW, "temperature": 0, **WHERE, **options}
    )


@feature
def whole():
    answer = chat().invoke(HELLO)
    assert answer.text
    assert answer.usage_metadata["output_tokens"] == FEW
    assert answer.response_metadata["finish_reason"] == "length"


@feature
def stream():
    assert "".join(chunk.text for chunk in chat().stream(HELLO)) == chat().invoke(HELLO).text


@feature
def stream_usage():
    chunks = list(chat(stream_usage=True).stream(HELLO))
    assert [chunk.usage_metadata["output_tokens"] for chunk in chunks if chunk.usage_metadata] == [FEW]


@feature
def system():
    answer = chat().invoke([SystemMessage("Speak of gulls and nothing else."), *HELLO])
    assert answer.usage_metadata["input_tokens"] > chat().invoke(HELLO).usage_metadata["input_tokens"]


@feature
def developer():
    text = "Speak of gulls and nothing else."
    role = SystemMessage(text, additional_kwargs={"__openai_role__": "developer"})
    assert chat().invoke([role, *HELLO]).text == chat().invoke([SystemMessage(text), *HELLO]).text


@feature
def parts():
    messages = [HumanMessage([{"type": "text", "text": QUESTION}])]
    assert chat().invoke(messages).text == chat().invoke(HELLO).text


@feature
def conversation():
    assert chat().invoke([*HELLO, AIMessage("Good."), HumanMessage("Why?")]).text


@feature
def max_completion_tokens():  # what ChatOpenAI makes of its max_tokens
    model = chat(max_tokens=3)
    assert model._get_request_payload(HELLO)["max_completion_tokens"] == 3
    assert model.invoke(HELLO).usage_metadata["output_tokens"] == 3


@feature
def stop():
    text = chat().invoke(HELLO).text
    assert chat().invoke(HELLO, stop=[stopped(text)]).text == text.partition(stopped(text))[0]


@feature
def seed():
    model = chat(seed=7, temperature=1.5, max_tokens=12)
    assert model.invoke(HELLO).text == model.invoke(HELLO).text


@feature
def n():
    assert len(chat(n=3, temperature=1).generate([HELLO]).generations[0]) == 3


@feature
def logprobs():
    logprobs = chat(logprobs=True, top_logprobs=3).invoke(HELLO).response_metadata["logprobs"]["content"]
    assert len(logprobs) == FEW
    assert all(len(token["top_logprobs"]) == 3 for token in logprobs)


@feature
def json_schema():
    fits(chat(max_tokens=60).with_structured_output(SCHEMA, method="json_schema").invoke(HELLO))


@feature
def completions():
    assert OpenAI(model="base", max_tokens=FEW, **WHERE).invoke("Once upon a time")


@feature
def completions_stream():
    assert "".join(OpenAI(model="base", max_tokens=FEW, **WHERE).stream("Once upon a time"))


@feature
def responses():
    answer = chat(use_responses_api=True).invoke([SystemMessage("Be brief."), *HELLO])
    assert answer.text
    assert answer.usage_metadata["output_tokens"] == FEW


@feature
def responses_stream():
    assert "".join(chunk.text for chunk in chat(use_responses_api=True).stream(HELLO))


@feature
def cancel():
    chunks = chat(max_tokens=LONG, extra_body=ENDLESS).stream(HELLO)
    next(chunks)
    chunks.close()
    return idle()


@feature
def retries():
    patient = chat(max_retries=3, max_tokens=1)
    return retried(lambda: patient.invoke(HELLO), lambda: chat().invoke(HELLO), openai.RateLimitError)


@feature
def error_key():
    stranger = chat(api_key=WRONG_KEY)
    return raised(openai.AuthenticationError, lambda: stranger.invoke(HELLO), "invalid_api_key")


@feature
def error_model():
    return raised(openai.NotFoundError, lambda: chat(model="gpt-9").invoke(HELLO), "model_not_found")


@feature
def error_image():
    picture = HumanMessage([{"type": "image_url", "image_url": {"url": PIXEL}}])
    return raised(openai.BadRequestError, lambda: chat().invoke([picture]), "messages[0].content[0]")


@feature
def error_tools():
    model = chat().bind_tools([TOOL], tool_choice="any")
    return raised(openai.BadRequestError, lambda: model.invoke(HELLO), "tool_choice")


@feature
def tools():
    assert chat().bind_tools([TOOL]).invoke(HELLO).content


@feature
def error_embeddings():
    model = OpenAIEmbeddings(model="ada", check_embedding_ctx_length=False, max_retries=0, **WHERE)
    return raised(openai.NotFoundError, lambda: model.embed_query("Hello"))


absent("models", "ChatOpenAI lists no models")
absent("model", "ChatOpenAI lists no models")
absent("ada", "sends it by extra_body; of the answer it shows the header AI-Disclosure alone")
OWN = "ChatOpenAI leaves reasoning_content out, by design"
absent("thinking", OWN)
absent("thinking_stream", OWN)
report("LangChain", version("langchain-openai"))
