"""The terminal chat as a process: any bytes on its input, pasted lines, and text that would steer a terminal.

.venv/bin/python -m pytest tests/client/test_terminal_bytes.py
"""

import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from services.client import AdaChat, InferenceConfig
from services.client.ada_chat import AdaClientError

ROOT = Path(__file__).parents[2]
BAD_BYTE = ROOT / "tests/regressions/client_bad_byte/stdin"
DISCLOSURE = "Tomás is an AI persona: a language model that plays a fictional person."
PERSONA = {"name": "Tomás", "user_name": "Ruth", "pronouns": "he/him"}
# Retitles the window, fills the clipboard, hides what follows; cut where a stream may cut it.
EVIL = ["Rye\x1b]0;owned", "\x07\x1b]52;c;ZXZp", "bA==\x07 br\x1b", "[8mead\x9b31m.\r"]
GUARD_S = 20  # against hanging


class Baker(BaseHTTPRequestHandler):
    """A server of Tomás's that remembers what it was sent."""

    sent: list[dict] = []

    def do_GET(self) -> None:
        entry = {"date": "2026-06-08\x1b[2J", "text": "Rye\x1b]0;owned\x07 bread."}
        answers = {"/healthz": {"disclosure": DISCLOSURE}, "/v1/models/ada": {"ada": {"persona": PERSONA}}}
        self._send("application/json", json.dumps(answers.get(self.path, {"data": [entry]})).encode())

    def do_POST(self) -> None:
        self.sent.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        if self.path == "/v1/diary/entries":
            self._send("application/json", b'{"id": "e1", "job_id": "j1"}')
            return
        ada = {"diary": {"entries": [{"date": "2026\x1b[31m"}]}}
        chunks = [{"id": "c", "choices": [{"index": 0, "delta": {"content": text}}]} for text in EVIL]
        events = [
            f"data: {json.dumps(chunk)}\n\n" for chunk in [*chunks, {"id": "c", "choices": [], "ada": ada}]
        ]
        self._send("text/event-stream", ("".join(events) + "data: [DONE]\n\n").encode())

    def _send(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    Baker.sent = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Baker) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def messages() -> list[str]:
    """What was said to him."""
    return [body["messages"][-1]["content"] for body in Baker.sent if "messages" in body]


def environment(**more: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("LC_")} | more


def chat(server: str, typed: bytes, **more: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "services.client", "--url", server]
    return subprocess.run(
        command, input=typed, capture_output=True, cwd=ROOT, env=environment(**more), timeout=60, check=False
    )


LOCALES = [
    {"LC_ALL": "C.UTF-8"},
    {"LC_ALL": "C"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
]


class TestBytes:
    @pytest.mark.parametrize("locale", LOCALES, ids=["C.UTF-8", "C", "C, and Python does not help"])
    def test_a_bad_byte_is_a_replacement_character_and_the_chat_goes_on(self, server: str, locale):
        """The regression client_bad_byte."""
        typed = BAD_BYTE.read_bytes().replace(b"quit", b"/diary caf\xe9\nand you?\nquit")
        message = chat(server, typed, **locale)
        assert (message.returncode, message.stderr) == (0, b"")
        assert messages() == ["hello caf\ufffd", "and you?"]
        assert [body["text"] for body in Baker.sent if "text" in body] == ["caf\ufffd"]
        assert b"is the server up" not in message.stdout
        assert "Tomás: Rye" in message.stdout.decode()

    @pytest.mark.parametrize("typed", [b"\xff\xfe\n\xc3\n", b"\x00\x1b[A\n", b"\xed\xa0\x80\n", b"caf\xc3"])
    def test_no_byte_ends_the_chat(self, server: str, typed: bytes):
        message = chat(server, typed + b"\nquit\n")
        assert (message.returncode, message.stderr) == (0, b"")
        assert messages()

    def test_a_program_is_told_what_is_wrong_with_its_text(self, server: str):
        with AdaChat(InferenceConfig(base_url=server)) as ada:
            for call in (ada.add_diary_entry, ada.generate_response):
                with pytest.raises(AdaClientError, match=r"U\+DCE9 at character 3"):
                    call("caf\udce9")
            assert ada.history == []

    @pytest.mark.parametrize("key", ["caf\xe9", "caf\udce9", "a\nb"])
    def test_a_key_that_no_header_can_carry_is_one_line(self, key: str):
        with pytest.raises(AdaClientError, match="ADA_KEY"):
            AdaChat(InferenceConfig(api_key=key))


class TestWhatIsShown:
    def test_the_names_are_the_served_personas(self, server: str):
        shown = chat(server, b"hello\n/help\nquit\n").stdout.decode()
        assert shown.startswith(f"[{DISCLOSURE}]\n")
        assert "writes into Tomás's diary" in shown
        assert "Ruth: Tomás: " in shown
        assert not {"Ada:", "Drew", "her"} & set(shown.split())

    def test_no_answer_and_no_entry_steers_the_terminal(self, server: str):
        shown = chat(server, b"hello\n/read\nquit\n").stdout
        assert not {*shown} & ({*range(0x20), 0x7F} - {*b"\n\t"})
        text = shown.decode()
        assert "\x9b" not in text
        assert "Rye␛]0;owned␇␛]52;c;ZXZpbA==␇ br␛[8mead\ufffd31m." in text
        assert "[2026-06-08␛[2J] Rye␛]0;owned␇ bread." in text
        assert "recalled 2026␛[31m" in text


class Screen:
    """The chat on a real terminal."""

    def __init__(self, server: str) -> None:
        self.shown = b""
        self._process, self._terminal = self._start(server)

    @staticmethod
    def _start(server: str) -> tuple[subprocess.Popen[bytes], int]:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        process = subprocess.Popen(
            [sys.executable, "-m", "services.client", "--url", server],
            stdin=theirs, stdout=theirs, stderr=theirs, cwd=ROOT, start_new_session=True,
            env=environment(TERM="xterm-256color", LC_ALL="C.UTF-8"),
        )  # fmt: skip
        os.close(theirs)
        return process, ours

    def type(self, keys: bytes) -> None:
        os.write(self._terminal, keys)

    def until(self, holds) -> None:
        """Read what is shown until it holds."""
        end = time.monotonic() + GUARD_S
        while not holds():
            assert time.monotonic() < end, self.shown.decode(errors="replace")
            if select.select([self._terminal], [], [], 0.05)[0]:
                try:
                    self._show(os.read(self._terminal, 65536))
                except OSError:  # the process has closed its end
                    return

    def texts(self) -> str:
        """All that was shown, without positions, colours and spaces."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\s", "", self.shown.decode(errors="replace"))

    def _show(self, output: bytes) -> None:
        self.shown += output
        for _ in range(output.count(b"\x1b[6n")):  # where is the cursor? A terminal answers
            self.type(b"\x1b[3;1R")

    def close(self) -> int:
        """Leave, and see how the chat ended."""
        self.type(b"quit\r")
        self.until(lambda: self._process.poll() is not None)
        os.close(self._terminal)
        return self._process.wait(GUARD_S)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def screen(server: str) -> Iterator[Screen]:
    screen = Screen(server)
    try:
        screen.until(lambda: b"Ruth:" in screen.shown and b"\x1b[?2004h" in screen.shown)
        yield screen
    finally:
        screen.kill()


class TestPasting:
    def test_pasted_lines_are_one_message_and_a_bad_byte_is_none_of_them(self, screen: Screen):
        screen.type(b"\x1b[200~first caf\xe9\r\nsecond\n\nfourth\x1b[201~")
        screen.type(b"\r")
        screen.until(lambda: messages())
        assert messages() == ["first caf\ufffd\nsecond\n\nfourth"]
        assert screen.close() == 0

    def test_lines_that_come_at_once_are_one_message_without_brackets_too(self, screen: Screen):
        screen.type(b"first\rsecond\rthird\r")
        screen.until(lambda: messages())
        assert messages() == ["first\nsecond\nthird"]
        assert screen.close() == 0

    def test_the_disclosure_stands_under_the_prompt_all_the_time(self, screen: Screen):
        for number in (1, 2):
            screen.until(lambda number=number: screen.texts().count("AIpersona:") > number)
            screen.type(b"hello\r")
            screen.until(lambda number=number: len(messages()) == number)
        assert screen.close() == 0
