"""Ada as an client: what is taken for an entry of what a model server says.

.venv/bin/python -m pytest tests/worker/test_completion_client.py
"""

import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from fake_model import ModelServer, completion
from hypothesis import given
from hypothesis import strategies as st

from services.chat_markup import strip_markup
from services.errors import EntryRejected, ModelUnavailable
from services.worker.reflection import CompletionClient

REQUEST = {"model": "ada", "messages": [{"role": "user", "content": "Write today's entry."}], "max_tokens": 9}
MARKS = ("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<think>", "</think>", "</s>", "<|x|>")


@pytest.fixture
def client(model: ModelServer) -> Iterator[CompletionClient]:
    client = CompletionClient(model.url)
    yield client
    client.close()


@contextmanager
def listening(answer: bytes) -> Iterator[str]:
    """A server that says this to whoever asks; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        thread.join(timeout=10)


def test_the_request_goes_out_as_it_is_and_the_answer_is_the_entry(
    client: CompletionClient, model: ModelServer
):
    assert client.complete({**REQUEST, "stream": True}) == "A quiet day."
    assert model.requests == [{**REQUEST, "stream": False}]


@pytest.mark.parametrize(
    ("answer", "entry"),
    [
        ("  Rain until four.\n", "Rain until four."),
        ("<think>\nWhat did we say?\n</think>\n\nRain.", "Rain."),
        ("What did we say?\n</think>\n\nRain.", "Rain."),
        ("<|im_start|>Ada\nRain.<|im_end|>\n", "Rain."),
        ("Rain.<|im_end|>\n<|im_start|>Drew\nAnd then?", "Rain."),
        ("Rain.<|endoftext|>Once upon a time", "Rain."),
        ("Rain <|object_ref_start|>again</s>", "Rain again"),
        ("One < two, and a | b.", "One < two, and a | b."),
    ],
)
def test_no_trace_of_the_template_is_left(answer: str, entry: str):
    assert strip_markup(answer) == entry


@given(st.lists(st.sampled_from((*MARKS, "Rain.", "\n", "<", "|", ">", " sun "))).map("".join))
def test_no_control_mark_survives_in_any_order(answer: str):
    assert not re.search(r"<\|[^|<>\n]{0,64}\|>|</?think>", strip_markup(answer))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (completion(""), "empty"),
        (completion(None), "empty"),
        (completion(" \n"), "empty"),
        (completion("<think>I wonder"), "empty"),
        (completion("<|im_end|>"), "empty"),
        (completion("It was a dark and", "length"), "cut off .*'length'.*retry"),
        (b'{"choices": []}', "no chat completion"),
        (b'{"choices": [{"message": "x"}]}', "no chat completion"),
        (b"[1]", "no chat completion"),
    ],
)
def test_what_is_no_entry_is_rejected_with_its_reason(
    client: CompletionClient, model: ModelServer, body: bytes, reason: str
):
    model.body = body
    with pytest.raises(EntryRejected, match=reason):
        client.complete(REQUEST)


def test_a_refusal_is_told_in_the_models_own_words(client: CompletionClient, model: ModelServer):
    model.status, model.body = 400, json.dumps({"error": {"message": "context too long"}}).encode()
    with pytest.raises(EntryRejected, match=r"\(400\): context too long"):
        client.complete(REQUEST)
    model.body = b"<html>no</html>"
    with pytest.raises(EntryRejected, match="<html>no</html>"):
        client.complete(REQUEST)


@pytest.mark.parametrize("status", [404, 429, 500, 503])
def test_a_model_that_is_not_ready_may_be_asked_again(
    client: CompletionClient, model: ModelServer, status: int
):
    model.status = status
    with pytest.raises(ModelUnavailable, match=str(status)):
        client.complete(REQUEST)


def test_what_a_broken_protocol_quotes_is_not_told():
    with listening(b"the heron's name is Augustine\r\n\r\n") as url:
        client = CompletionClient(url)
        with pytest.raises(ModelUnavailable, match="can't be reached: RemoteProtocolError") as raised:
            client.complete(REQUEST)
        client.close()
    assert "heron" not in str(raised.value)


def test_half_an_answer_may_be_asked_again(client: CompletionClient, model: ModelServer):
    model.body = b'{"choices": ['
    with pytest.raises(ModelUnavailable, match="not JSON"):
        client.complete(REQUEST)


def test_nobody_at_the_address_may_be_asked_again(port: int):
    client = CompletionClient(f"http://127.0.0.1:{port}")
    with pytest.raises(ModelUnavailable, match="can't be reached"):
        client.complete(REQUEST)
    client.close()


def test_a_model_that_says_nothing_for_too_long_may_be_asked_again(model: ModelServer):
    model.pause_s = 0.5
    client = CompletionClient(model.url, silence_timeout_s=0.05)
    with pytest.raises(ModelUnavailable, match="can't be reached"):
        client.complete(REQUEST)
    client.close()
