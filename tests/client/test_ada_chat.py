"""The doorbell when nobody answers, or somebody refuses. With Ada at home: tests/test_whole_loop.py."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from services.client import AdaChat, InferenceConfig
from services.client.ada_chat import AdaClientError, url_of

ROOT = Path(__file__).parents[2]
NOBODY = "http://127.0.0.1:9"


class Refusing(BaseHTTPRequestHandler):
    """Answers every request with one of OpenAI's errors."""

    def do_POST(self) -> None:
        body = json.dumps({"error": {"message": "date: no such day", "type": "x", "param": "date"}}).encode()
        self.send_response(422)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def refusing() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_the_seeds_names_and_defaults():
    config = InferenceConfig()
    assert (config.max_new_tokens, config.temperature, config.top_p, config.top_k) == (512, 0.7, 0.8, 20)
    assert (config.user_name, config.assistant_name) == ("Drew", "Ada")


def test_nobody_at_home_is_said_with_the_address():
    with AdaChat(InferenceConfig(base_url=NOBODY)) as ada:
        for call in (ada.read_diary, ada.disclosure, lambda: ada.add_diary_entry("x")):
            with pytest.raises(AdaClientError, match=r"no Ada at http://127\.0\.0\.1:9"):
                call()


def test_a_question_to_nobody_raises_and_leaves_no_half_turn():
    with AdaChat(InferenceConfig(base_url=NOBODY, timeout_s=2)) as ada:
        with pytest.raises(AdaClientError):
            ada.generate_response("Hello?")
        assert ada.history == []


def test_a_refusal_is_told_in_the_servers_words(refusing: str):
    with AdaChat(InferenceConfig(base_url=refusing)) as ada:
        with pytest.raises(AdaClientError, match="date: no such day"):
            ada.add_diary_entry("x", date="2023-02-30")
        with pytest.raises(AdaClientError, match="date: no such day"):
            ada.generate_response("Hello")


def test_the_terminal_chat_says_in_one_line_that_nobody_is_there():
    result = subprocess.run(
        [sys.executable, "-m", "services.client", "--url", NOBODY],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr.startswith("chat: no Ada at")
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("end", ["", "/", "/v1", "/v1/"])
def test_the_address_is_taken_with_or_without_v1(end: str):
    with AdaChat(InferenceConfig(base_url=f"http://127.0.0.1:9090{end}")) as ada:
        assert ada.url == "http://127.0.0.1:9090"


@pytest.mark.parametrize("url", ["", "127.0.0.1:8080", "http://", "http://[::1", "http://127.0.0.1:x"])
def test_what_is_no_address_is_told_by_name(url: str):
    with pytest.raises(AdaClientError, match="is not an address of Ada"):
        AdaChat(InferenceConfig(base_url=url))


@pytest.mark.parametrize(
    ("environment", "url"),
    [
        ({}, "http://127.0.0.1:8080"),
        ({"ADA_PORT": "9090"}, "http://127.0.0.1:9090"),
        ({"ADA_PORT": "9090", "ADA_URL": "https://ada.example/v1"}, "https://ada.example/v1"),
        ({"ADA_PORT": "", "ADA_URL": ""}, "http://127.0.0.1:8080"),
    ],
)
def test_ada_is_where_the_environment_says(environment: dict[str, str], url: str):
    assert url_of(environment) == url
