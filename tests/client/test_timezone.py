"""The terminal means the days of the machine that it runs on.

.venv/bin/python -m pytest tests/client/test_timezone.py
"""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from services.client import AdaChat, InferenceConfig
from services.client.ada_chat import timezone_of

AUCKLAND = "Pacific/Auckland"


@pytest.mark.parametrize(
    ("environment", "timezone"),
    [
        ({"TZ": AUCKLAND}, AUCKLAND),
        ({"TZ": f":{AUCKLAND}"}, AUCKLAND),
        ({"TZ": AUCKLAND, "ADA_TIMEZONE": "Europe/Berlin"}, "Europe/Berlin"),
        ({"TZ": "NZST-12NZDT"}, None),
        ({"TZ": "UTC"}, None),
        ({}, "America/Lima"),
    ],
)
def test_a_machine_says_its_time_zone(tmp_path: Path, environment: dict[str, str], timezone: str | None):
    linked = tmp_path / "zoneinfo" / "America" / "Lima"
    linked.parent.mkdir(parents=True)
    linked.touch()
    (tmp_path / "localtime").symlink_to(linked)
    assert timezone_of(environment, tmp_path / "localtime") == timezone


def test_a_machine_without_a_link_says_none(tmp_path: Path):
    assert timezone_of({}, tmp_path / "localtime") is None


class Listening(BaseHTTPRequestHandler):
    """Notes bodies, and answers each with an accepted entry or an empty stream."""

    bodies: list[dict]

    def do_POST(self) -> None:
        self.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        is_chat = self.path.endswith("completions")
        body = b"data: [DONE]\n\n" if is_chat else b'{"id": "e"}'
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream" if is_chat else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def bodies() -> list[dict]:
    return []


@pytest.fixture
def url(bodies: list[dict]) -> Iterator[str]:
    handler = type("_Listening", (Listening,), {"bodies": bodies})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(("timezone", "sent"), [(AUCKLAND, {"timezone": AUCKLAND}), (None, {})])
def test_it_is_sent_with_entries_and_questions(
    url: str, bodies: list[dict], timezone: str | None, sent: dict
):
    with AdaChat(InferenceConfig(base_url=url, timezone=timezone)) as ada:
        ada.add_diary_entry("Today.")
        ada.generate_response("What did you do yesterday?")
    assert bodies[0] == {"text": "Today.", **sent}
    assert bodies[1].get("ada", {}) == sent
