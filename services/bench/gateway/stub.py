"""A model server of fixed speed that needs hardly any CPU: asyncio's protocols, httptools, uvloop.

    python -m services.bench.gateway.stub PORT

It implements what the orchestrator uses of vLLM. A stream has 32 chunks, each 20 ms after the one before and
the first 20 ms after the request; other answers come at once. Their text is the marker of the last user
message, so an answer that reaches another client is detected.
"""

import asyncio
import json
import re
import sys
from typing import Any, cast

import httptools
import uvloop

CHUNKS, GAP_S = 32, 0.02
_MARKER = re.compile(rb"marker-[0-9a-z-]+")
_WANTS_STREAM = re.compile(rb'"stream": ?true')
USAGE = {"prompt_tokens": 20, "total_tokens": 20 + CHUNKS, "completion_tokens": CHUNKS}
_JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
_STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
MODELS = {
    "object": "list",
    "data": [{"id": "ada", "root": "/runs/bench", "max_model_len": 4096}, {"id": "base"}],
}


class Stub(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass of it
        self._parser = httptools.HttpRequestParser(self)
        self._body = b""
        self._path = b""
        self._streams: set[asyncio.Task[None]] = set()

    def connection_lost(self, _error: Exception | None) -> None:
        for stream in self._streams:
            stream.cancel()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._path = url

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        body, self._body = self._body, b""
        if self._path == b"/v1/models":
            self._whole(MODELS)
        elif self._path == b"/tokenize":
            self._whole({"tokens": list(range(len(body) // 4))})
        elif _WANTS_STREAM.search(body):
            task = asyncio.get_running_loop().create_task(self._stream(_marker(body)))
            self._streams.add(task)
            task.add_done_callback(self._streams.discard)
        else:
            self._whole(answer(_marker(body)))

    def _whole(self, body: dict[str, Any]) -> None:
        content = json.dumps(body, separators=(",", ":")).encode()
        self._transport.write(_JSON % (len(content), content))

    async def _stream(self, marker: str) -> None:
        self._transport.write(_STREAM)
        chunk, last = (
            _piece(event(marker, None)),
            _piece(event(marker, "stop") + _usage() + b"data: [DONE]\n\n"),
        )
        for _ in range(CHUNKS - 1):
            await asyncio.sleep(GAP_S)
            self._transport.write(chunk)
        await asyncio.sleep(GAP_S)
        self._transport.write(last + b"0\r\n\r\n")


def answer(marker: str) -> dict[str, Any]:
    """A chat completion as vLLM writes it."""
    message = {"role": "assistant", "content": marker}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "ada"}
    return {**head, "choices": [choice], "usage": USAGE}


def event(marker: str, finish: str | None) -> bytes:
    """One event of a stream."""
    choice = {"index": 0, "delta": {"content": marker}, "logprobs": None, "finish_reason": finish}
    return _event([choice])


def _usage() -> bytes:
    return _event([], usage=USAGE)


def _event(choices: list[Any], **more: Any) -> bytes:
    chunk = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "ada",
        "choices": choices,
    }
    return b"data: " + json.dumps({**chunk, **more}, separators=(",", ":")).encode() + b"\n\n"


def _marker(body: bytes) -> str:
    markers = _MARKER.findall(body)
    return markers[-1].decode() if markers else ""


def _piece(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def serve(port: int) -> None:
    """Serve until the process is terminated."""
    server = await asyncio.get_running_loop().create_server(Stub, "127.0.0.1", port, backlog=2048)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
