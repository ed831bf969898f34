"""simonw's `llm`: its Python API, and its command for the first answer."""

import base64
import json
import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from reporting import (
    FEW,
    KEY,
    LONG,
    PIXEL,
    QUESTION,
    SCHEMA,
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

home = tempfile.TemporaryDirectory()
os.environ["LLM_USER_PATH"] = home.name
COMMON = {"api_base": V1, "api_key_name": "ada"}
MODELS = [
    {
        "model_id": "ada",
        "model_name": "ada",
        "supports_schema": True,
        "vision": True,
        "reasoning": True,
        "supports_tools": True,
    },
    {"model_id": "gone", "model_name": "gpt-9"},
    {"model_id": "text", "model_name": "base", "completion": True},
    {"model_id": "ada-responses", "model_name": "ada", "responses": True},
]
Path(home.name, "extra-openai-models.yaml").write_text(json.dumps([{**model, **COMMON} for model in MODELS]))
Path(home.name, "keys.json").write_text(json.dumps({"ada": KEY}))

import llm  # noqa: E402 - it reads the folder when it is imported
import openai  # noqa: E402

ada_model = llm.get_model("ada")


def ask(text=QUESTION, model=ada_model, **options):
    return model.prompt(text, **{"max_tokens": FEW, "temperature": 0, "stream": False, **options})


@feature
def whole():
    command = [
        sys.executable,
        "-m",
        "llm",
        "-m",
        "ada",
        "--no-stream",
        "-o",
        "max_tokens",
        str(FEW),
        "-o",
        "temperature",
        "0",
    ]
    result = subprocess.run([*command, QUESTION], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == ask().text().strip() != ""
    answer = ask()
    assert answer.text()
    assert answer.usage().output == FEW


@feature
def stream():
    assert "".join(ask(stream=True)) == ask().text()


@feature
def stream_usage():
    answer = ask(stream=True)
    assert answer.text()
    assert answer.usage().output == FEW


@feature
def system():
    answers = [ask(system="Speak of gulls and nothing else."), ask()]
    assert answers[0].text()
    assert answers[1].text()
    assert answers[0].usage().input > answers[1].usage().input


@feature
def conversation():
    talk = ada_model.conversation()
    first = talk.prompt(QUESTION, max_tokens=FEW, temperature=0)
    assert first.text()
    second = talk.prompt("Why?", max_tokens=FEW, temperature=0)
    assert second.text()
    assert second.usage().input > first.usage().input


@feature
def stop():
    text = ask().text()
    assert ask(stop=stopped(text)).text() == text.partition(stopped(text))[0]


@feature
def seed():
    options = {"temperature": 1.5, "seed": 7, "max_tokens": 12}
    assert ask(**options).text() == ask(**options).text()


@feature
def json_schema():
    fits(json.loads(ask(schema=SCHEMA, max_tokens=60).text()))


@feature
def completions():
    assert llm.get_model("text").prompt("Once upon a time", max_tokens=FEW, stream=False).text()


@feature
def completions_stream():
    assert "".join(llm.get_model("text").prompt("Once upon a time", max_tokens=FEW))


def respond(**options):
    return llm.get_model("ada-responses").prompt(QUESTION, max_tokens=FEW, temperature=0, **options)


@feature
def responses():
    answer = respond(stream=False)
    assert answer.text()
    assert answer.usage().output == FEW


@feature
def responses_stream():
    assert "".join(respond(stream=True))


@feature
def cancel():
    pieces = iter(ask(stream=True, max_tokens=LONG, temperature=1))
    next(pieces)
    pieces.close()
    del pieces
    return idle()


@feature
def retries():
    return retried(lambda: ask(max_tokens=1).text())


@feature
def error_key():
    return raised(openai.AuthenticationError, lambda: ask(key=WRONG_KEY).text(), "invalid_api_key")


@feature
def error_model():
    return raised(openai.NotFoundError, lambda: ask(model=llm.get_model("gone")).text(), "model_not_found")


@feature
def error_image():
    picture = llm.Attachment(type="image/png", content=base64.b64decode(PIXEL.partition(",")[2]))
    return raised(openai.BadRequestError, lambda: ask(attachments=[picture]).text(), "content[1]")


@feature
def tools():
    def weather(town: str) -> str:
        """The weather of a town."""
        return "rain"

    assert ask(tools=[weather]).text()


absent("error_tools", "leaves the choice of a tool to the model")
absent("parts", "sends text as text")
absent("ada", "shows it in response_json, has no option to send it")
for name in ("models", "model"):
    absent(name, "models are named in extra-openai-models.yaml")
for name in ("developer", "max_completion_tokens", "n", "logprobs"):
    absent(name, "no option for it")
for name in ("error_embeddings",):
    absent(name, "names only OpenAI's own embedding models")
for name in ("thinking", "thinking_stream"):
    absent(name, "reads no reasoning_content")
report("llm", version("llm"))
