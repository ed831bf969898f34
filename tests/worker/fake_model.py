"""A model server for tests: says what it is told to say, over real HTTP, and remembers what it was asked."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def completion(content: str | None, finish_reason: str = "stop") -> bytes:
    """The body of a chat completion."""
    choice = {
        "index": 0,
        "finish_reason": finish_reason,
        "message": {"role": "assistant", "content": content},
    }
    return json.dumps({"object": "chat.completion", "choices": [choice]}).encode()


class ModelServer:
    """Answers with `status` and `body` after `pause_s`; a test may change all three."""

    def __init__(self) -> None:
        self.status, self.body = 200, completion("A quiet day.")
        self.pause_s = 0.0
        self.requests: list[dict[str, Any]] = []
        self.url = ""

    @contextmanager
    def served(self) -> Iterator["ModelServer"]:
        """On a port of its own until the context ends."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/chat/completions"
                outer.requests.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                time.sleep(outer.pause_s)
                self.send_response(outer.status)
                self.send_header("Content-Length", str(len(outer.body)))
                self.end_headers()
                with suppress(BrokenPipeError):  # whoever asked has lost patience
                    self.wfile.write(outer.body)

            def log_message(self, *_: object) -> None:
                """Nothing is logged."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
