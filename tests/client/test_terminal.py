"""The terminal chat: what it says of Ada and when. The server is a small real one."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from services.client import AdaChat, InferenceConfig
from services.client.__main__ import ChatSession
from services.client.ada_chat import key_of
from services.client.reminder import EVERY_S, Reminder

DISCLOSURE = "Ada is an AI persona."


class Speaking(BaseHTTPRequestHandler):
    """Says one word as a stream, and what she is at /healthz."""

    def do_GET(self) -> None:
        self._send("application/json", json.dumps({"disclosure": DISCLOSURE}).encode())

    def do_POST(self) -> None:
        choice = {"index": 0, "delta": {"content": "Hello."}, "finish_reason": "stop"}
        chunk = {"id": "c", "choices": [choice], "ada": {"diary": {"entries": []}}}
        self._send("text/event-stream", f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n".encode())

    def _send(self, kind: str, body: bytes, status: int = 200) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def ada() -> Iterator[AdaChat]:
    with HTTPServer(("127.0.0.1", 0), Speaking) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with AdaChat(InferenceConfig(base_url=f"http://127.0.0.1:{server.server_port}")) as ada:
            yield ada
        server.shutdown()


def talk(ada: AdaChat, monkeypatch, now: list[float], lines: list[tuple[float, str]]) -> None:
    """A chat in which each line is typed so many seconds after the one before."""
    typed = iter(lines)

    def line(_prompt: str) -> str:
        later, text = next(typed)
        now[0] += later
        return text

    monkeypatch.setattr("builtins.input", line)
    ChatSession(ada, Reminder(lambda: now[0])).run()


def test_it_is_told_at_the_start_and_with_every_answer(ada, monkeypatch, capsys):
    talk(ada, monkeypatch, [0.0], [(0, "hi"), (60, "and?"), (0, "quit")])
    text = capsys.readouterr().out
    assert text.index(DISCLOSURE) < text.index("Hello.")
    assert text.count(f"[{DISCLOSURE}]") == 1
    assert text.count("[AI persona") == 2


def test_it_is_told_again_every_three_hours(ada, monkeypatch, capsys):
    lines = [(0, "hi"), (EVERY_S - 1, "still here?"), (2, "and now?"), (EVERY_S, "good night"), (0, "quit")]
    talk(ada, monkeypatch, [0.0], lines)
    assert capsys.readouterr().out.count(f"[{DISCLOSURE}]") == 3


def test_ctrl_c_ends_an_answer_and_not_the_chat(ada, monkeypatch, capsys):
    def interrupted(_message: str) -> Iterator[str]:
        yield "Hel"
        raise KeyboardInterrupt

    monkeypatch.setattr(ada, "stream_response", interrupted)
    talk(ada, monkeypatch, [0.0], [(0, "hi"), (0, "quit")])
    assert "interrupted" in capsys.readouterr().out


def test_the_key_may_stand_in_the_environment():
    assert key_of({"ADA_KEY": "ada-x"}) == "ada-x"
    assert key_of({}) == "none"


class Forgetful(Speaking):
    """Reads five turns at once, and cuts an answer that the context ends."""

    def do_POST(self) -> None:
        questions = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.headers.replace_header("content-length", "0")
        turns, newest = len(questions["messages"]), questions["messages"][-1]["content"]
        if turns > 5 or len(newest) > 100:
            error = {"message": "maximum context length is 9 tokens", "code": "context_length_exceeded"}
            self._send("application/json", json.dumps({"error": error}).encode(), 400)
            return
        finish = "length" if newest == "cut me" else "stop"
        choice = {"index": 0, "delta": {"content": f"{turns} read."}, "finish_reason": finish}
        usage = {"prompt_tokens": 1, "completion_tokens": 3, "total_tokens": 4}
        chunks = [{"id": "c", "choices": [choice]}, {"id": "c", "choices": [], "usage": usage}]
        events = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks)
        self._send("text/event-stream", f"{events}data: [DONE]\n\n".encode())


class TestAFullContext:
    @pytest.fixture
    def ada(self) -> Iterator[AdaChat]:
        with HTTPServer(("127.0.0.1", 0), Forgetful) as server:
            threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
            with AdaChat(InferenceConfig(base_url=f"http://127.0.0.1:{server.server_port}")) as ada:
                yield ada
            server.shutdown()

    def test_the_oldest_turns_leave_until_the_question_fits(self, ada: AdaChat):
        for text in ("one", "two", "three"):
            ada.generate_response(text)
        assert ada.dropped_turns == 0
        assert ada.generate_response("four") == "5 read."
        assert ada.dropped_turns == 2
        assert [turn["content"] for turn in ada.history][::2] == ["two", "three", "four"]

    def test_an_answer_that_the_context_cut_makes_room_for_the_next(self, ada: AdaChat):
        ada.generate_response("one")
        ada.generate_response("cut me")
        assert ada.dropped_turns == 2
        assert ada.history[0]["content"] == "cut me"

    def test_the_terminal_says_so_and_names_the_way_out(self, ada, monkeypatch, capsys):
        talk(ada, monkeypatch, [0.0], [(0, str(number)) for number in range(4)] + [(0, "quit")])
        text = capsys.readouterr().out
        assert text.count("its 2 oldest turns are left out from now on · /clear begins anew") == 1

    def test_one_message_that_is_too_long_costs_nothing_of_the_history(self, ada, monkeypatch, capsys):
        talk(ada, monkeypatch, [0.0], [(0, "one"), (0, "x" * 200), (0, "two"), (0, "quit")])
        text = capsys.readouterr().out
        assert "[maximum context length is 9 tokens]" in text
        assert "3 read." in text
