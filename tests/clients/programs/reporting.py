"""What the programs of the Python clients share: a feature is a function, reported as a line of JSON.

@feature
def stop():          # raises what is wrong, returns what is worth a look
    ...

absent("n", "why the client does not offer it")
report("name", version)
"""

import gc
import http.client
import json
import os
import re
import threading
import time
import traceback
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

URL, KEY, MODEL_URL, MODEL_KEY = (
    os.environ[name] for name in ("ADA_URL", "ADA_KEY", "MODEL_URL", "MODEL_API_KEY")
)
V1 = f"{URL}/v1"
WRONG_KEY = "ada-wrong"
QUESTION = "How was your day?"
FEW = 8  # tokens
ENDLESS = {"ignore_eos": True}  # with LONG tokens: minutes on a processor
LONG = 2000
SCHEMA = {
    "title": "place",
    "type": "object",
    "properties": {"town": {"type": "string", "enum": ["Bray", "Cork"]}, "rain": {"type": "boolean"}},
    "required": ["town", "rain"],
    "additionalProperties": False,
}
# A model too small to think: its thought and where it ends are forced.
THINK = {"enable_thinking": True}
THOUGHT = {
    "chat_template_kwargs": THINK,
    "structured_outputs": {"regex": "I think [a-z]{3,9}</think>\n\nI say [a-z]{3,9}"},
}
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a town.",
        "parameters": {"type": "object", "properties": {"town": {"type": "string"}}},
    },
}
_features: dict[str, Callable[[], object]] = {}
_absent: dict[str, str] = {}


def feature(function: Callable[[], object]) -> Callable[[], object]:
    """Report a function as the feature of its name."""
    _features[function.__name__] = function
    return function


def absent(name: str, why: str) -> None:
    """The client does not offer this."""
    _absent[name] = why


def report(client: str, version: str) -> None:
    """Run all features, and write a line about each."""
    for name, why in _absent.items():
        _line(client, version, name, None, why)
    for name, function in _features.items():
        began = time.monotonic()
        try:
            detail, ok = function(), True
        except Exception:
            detail, ok = traceback.format_exc(limit=-4), False
        _line(client, version, name, ok, detail, time.monotonic() - began)


def _line(client: str, version: str, name: str, ok: bool | None, detail: object, took_s: float = 0.0) -> None:
    fields = {"client": client, "version": version, "feature": name, "ok": ok, "took_s": round(took_s, 2)}
    print(json.dumps({**fields, "detail": str(detail or "")}), flush=True)


def stopped(text: str) -> str:
    """What of a text a `stop` can be: something in its middle."""
    assert len(text) > 8, text
    return text[len(text) // 2 :][:4]


def check_thought(thought: str | None, content: str | None) -> str:
    """Check what THOUGHT has forced."""
    assert re.fullmatch(r"I think [a-z]{3,9}", thought or ""), (thought, content)
    assert re.fullmatch(r"I say [a-z]{3,9}", content or ""), (thought, content)
    return f"{thought} / {content}"


def fits(answer: dict[str, object]) -> None:
    """Check an answer in SCHEMA."""
    assert answer.keys() == {"town", "rain"}, answer
    assert answer["town"] in ("Bray", "Cork"), answer
    assert isinstance(answer["rain"], bool), answer


@contextmanager
def busy() -> Iterator[None]:
    """The model's only place is taken by somebody else while the block runs."""
    connection = http.client.HTTPConnection(urlsplit(URL).netloc)
    body = {
        "messages": [{"role": "user", "content": "Go on."}],
        "max_tokens": LONG,
        "stream": True,
        **ENDLESS,
    }
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    answer.readline()
    try:
        yield
    finally:
        answer.close()
        connection.close()
        idle()


def idle(within_s: float = 5.0) -> str:
    """How long it took from now until nothing is generated any more; then Ada's only place is waited for."""
    began = time.monotonic()
    gc.collect()  # some clients let go of a connection only here; it is part of the time
    _zero(MODEL_URL, "vllm:num_requests_running", began + within_s)
    took_s = time.monotonic() - began
    _zero(URL, "ada_running", began + within_s)
    return f"{took_s * 1000:.0f} ms"


def _zero(url: str, name: str, deadline: float) -> None:
    while _number(url, name):
        assert time.monotonic() < deadline, f"{name} is still {_number(url, name):g}"
        time.sleep(0.01)


def _number(url: str, name: str) -> float:
    headers = {"Authorization": f"Bearer {MODEL_KEY}"} if url == MODEL_URL else {}
    with urllib.request.urlopen(urllib.request.Request(f"{url}/metrics", headers=headers)) as answer:
        text = answer.read().decode()
    numbers = re.findall(rf"^{name}(?:\{{.*\}})? (\S+)", text, re.MULTILINE)
    assert numbers, f"{url}/metrics does not report {name}"
    return sum(map(float, numbers))


def raised(kind: type[BaseException], call: Callable[[], object], *words: str) -> str:
    """Check that a call raises the client's own exception, and that it has these words."""
    try:
        call()
    except kind as error:
        message = f"{error} {getattr(error, 'body', '')}"
        for word in words:
            assert word in message, f"{word!r} is not in {message}"
        return f"{type(error).__module__}.{type(error).__qualname__}"
    raise AssertionError(f"{kind.__name__} was not raised")


def retried(
    patient: Callable[[], object],
    impatient: Callable[[], object] | None = None,
    kind: type[BaseException] = Exception,
) -> str:
    """Check that 429 is this exception without retries, and that the call succeeds with them."""
    name = "retries can't be switched off"
    if impatient:
        with busy():
            name = raised(kind, impatient)
    other_request = busy()
    other_request.__enter__()
    release = threading.Timer(0.5, other_request.__exit__, (None, None, None))
    release.start()
    began = time.monotonic()
    try:
        assert patient()
    finally:
        release.join()
    took = time.monotonic() - began
    assert took > 1.5, f"{took:.1f} s: Retry-After is 2 s"  # a client may add or take some chance
    return f"{name}, then an answer after {took:.1f} s"
