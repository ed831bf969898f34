"""A model server with every known fault, over real sockets; `mode` selects one.

The modes vary the status, the head, the body of a complete answer, an event of a stream, the connection, the
time and the size.
"""

import asyncio
import gzip
import json
import re
from collections.abc import Awaitable, Callable

CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
USAGE = {"prompt_tokens": 20, "total_tokens": 52, "completion_tokens": 32}
ADDRESS = "10.1.2.3:8000"  # an internal address, which errors contain
_LEAK = f"ClientConnectorError: cannot connect to host {ADDRESS} ssl:default (http://vllm:8000/v1)"


def encoded(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def event(value: object) -> bytes:
    return b"data: " + encoded(value) + b"\n\n"


def deep(levels: int) -> bytes:
    return b'{"choices":[],"a":' + b"[" * levels + b"]" * levels + b"}"


# A status, the body, and further headers.
STATUSES: dict[str, tuple[int, bytes, bytes]] = {
    "500 text": (500, b"Internal Server Error", b""),
    "500 error": (
        500,
        encoded({"error": {"message": _LEAK, "type": "InternalServerError", "code": 500}}),
        b"",
    ),
    "500 odd": (500, encoded({"error": {"message": {"a": 1}, "type": 5, "param": [1], "code": "x"}}), b""),
    "502 page": (502, b"<html>Bad Gateway</html>", b""),
    "503": (503, encoded({"error": {"message": _LEAK}}), b""),
    "504": (504, b"", b""),
    "599": (599, b"", b""),
    "999": (999, encoded({"error": {"message": "x"}}), b""),
    "201": (201, b"{}", b""),
    "204": (204, b"", b""),
    "206": (206, b"{", b""),
    "302": (302, b"", b"Location: http://127.0.0.1:9/elsewhere\r\n"),
    "304": (304, b"", b""),
    "307": (307, b"", b"Location: /v1/models\r\n"),
    "400 odd": (400, encoded({"error": {"message": [1], "type": 5, "param": [1], "code": 400}}), b""),
    "400 text": (400, b"no", b""),
    "400 list": (400, b"[1]", b""),
    "400 null": (400, encoded({"error": None}), b""),
    "400 leak": (400, encoded({"error": {"message": _LEAK, "param": 7, "code": 400}}), b""),
    "400 trace": (
        400,
        encoded({"error": {"message": 'Traceback (most recent call last):\n File "/a", line'}}),
        b"",
    ),
    "400 surrogate": (400, b'{"error":{"message":"\\ud800"}}', b""),
    "400 deep": (400, b'{"error":' * 3000 + b"1" + b"}" * 3000, b""),
    "400 huge": (400, encoded({"error": {"message": "x" * (2 << 20)}}), b""),
    "401": (401, encoded({"error": {"message": "x", "code": "invalid_api_key"}}), b""),
    "403": (403, b"", b""),
    "404 text": (404, b"not here", b""),
    "407": (407, b"", b"Proxy-Authenticate: Basic\r\n"),
    "418": (418, b"{}", b""),
    "429": (429, b"", b""),
    "499": (499, b'{"error": "x"}', b""),
}
# The body of a complete answer with status 200.
BODIES: dict[str, bytes] = {
    "page": b"<html>",
    "list": b"[1]",
    "number": b"5",
    "null": b"null",
    "text": b'"x"',
    "nothing": b"",
    "empty": b"{}",
    "half": b'{"choices":[{"index":0,',
    "two": b'{"choices":[]}{"choices":[]}',
    "error": encoded({"error": {"message": _LEAK, "type": "InternalServerError", "code": 500}}),
    "error text": encoded({"error": "boom"}),
    "choices none": encoded({"choices": []}),
    "choices null": encoded({"choices": None}),
    "choices text": encoded({"choices": "abc"}),
    "choices numbers": encoded({"choices": [1]}),
    "choices object": encoded({"choices": {"0": 1}}),
    "message null": encoded({"choices": [{"index": 0, "message": None}]}),
    "message text": encoded({"choices": [{"index": 0, "message": "x", "text": 7}]}),
    "content number": encoded(
        {"choices": [{"index": 0, "finish_reason": "stop", "message": {"content": 7}}]}
    ),
    "content list": encoded({"choices": [{"index": 0, "message": {"content": [1]}, "text": [1]}]}),
    "index text": encoded({"choices": [{"index": "0", "message": {"content": "x"}, "text": "x"}]}),
    "index large": encoded({"choices": [{"index": 9, "message": {"content": "x"}, "text": "x"}]}),
    "index negative": encoded({"choices": [{"index": -1, "message": {"content": "x"}, "text": "x"}]}),
    "finish number": encoded({"choices": [{"index": 0, "message": {}, "text": "", "finish_reason": 5}]}),
    "finish abort": encoded({"choices": [{"index": 0, "message": {}, "text": "", "finish_reason": "abort"}]}),
    "surrogate": b'{"choices":[{"index":0,"message":{"content":"a\\ud800b"},"text":"\\udfff"}]}',
    "bad utf-8": b'{"choices":[{"index":0,"message":{"content":"\xff"},"text":"\xff"}]}',
    "usage text": encoded({"choices": [], "usage": {"total_tokens": "abc"}}),
    "usage list": encoded({"choices": [], "usage": [1]}),
    "usage infinite": b'{"choices":[],"usage":{"total_tokens":1e999}}',
    "usage negative": encoded({"choices": [], "usage": {"total_tokens": -5, "prompt_tokens": -7}}),
    "number infinite": b'{"x":1e400,"output":[],"choices":[{"index":0,"message":{},"text":"x"}]}',
    "nan": b'{"x":NaN,"output":[],"choices":[{"index":0,"message":{"content":"x"},"text":"x"}]}',
    "digits": b'{"choices":[],"x":' + b"9" * 6000 + b"}",
    "deep 5000": deep(5000),
    "deep 930": deep(930),
    "output null": encoded({"output": None}),
    "output numbers": encoded({"output": [1, 2]}),
    "output content": encoded(
        {"output": [{"type": "message", "content": [{"type": "output_text", "text": 7}]}]}
    ),
    "failed": encoded(
        {"output": [], "status": "failed", "error": {"code": "server_error", "message": _LEAK}}
    ),
}
# An event in the middle of a stream.
EVENTS: dict[str, bytes] = {
    "no json": b"data: {not json\n\n",
    "number": b"data: 5\n\n",
    "null": b"data: null\n\n",
    "list": b"data: []\n\n",
    "text": b'data: "x"\n\n',
    "no choices": event({"id": "x"}),
    "choices null": event({"choices": None}),
    "choices text": event({"choices": "abc"}),
    "choices numbers": event({"choices": [1, 2]}),
    "no index": event({"choices": [{"delta": {"content": "<"}, "text": "<"}]}),
    "index large": event({"choices": [{"index": 99, "delta": {"content": "<"}, "text": "<"}]}),
    "index true": event({"choices": [{"index": True, "delta": {"content": "<"}, "text": "<"}]}),
    "no delta": event({"choices": [{"index": 0, "finish_reason": None}]}),
    "delta null": event({"choices": [{"index": 0, "delta": None, "text": None}]}),
    "content number": event({"choices": [{"index": 0, "delta": {"content": 7}, "text": 7}]}),
    "role number": event({"choices": [{"index": 0, "delta": {"role": 7}, "text": []}]}),
    "finish list": event({"choices": [{"index": 0, "delta": {}, "text": "", "finish_reason": []}]}),
    "finish error": event({"choices": [{"index": 0, "delta": {}, "text": "", "finish_reason": "error"}]}),
    "bad utf-8": b'data: {"choices":[{"index":0,"delta":{"content":"\xff\xfe"},"text":"\xff"}]}\n\n',
    "bad utf-8 at the end": b'data: {"choices":[{"delta":{"content":"\xff"},"finish_reason":"stop"}]}\n\n',
    "surrogate": b'data: {"choices":[{"index":0,"delta":{"content":"<\\ud800"},"text":"\\ud800"}]}\n\n',
    "usage text": event({"choices": [], "usage": {"total_tokens": "abc"}}),
    "usage list": event({"choices": [], "usage": [1]}),
    "usage infinite": b'data: {"choices":[],"usage":{"total_tokens":1e400,"prompt_tokens":"a"}}\n\n',
    "id number": event({"id": 5, "choices": []}),
    "nan": b'data: {"choices":[],"x":NaN}\n\n',
    "number infinite at the end": b'data: {"x":1e400,"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n',
    "deep": b"data: " + deep(5000) + b"\n\n",
    "error text": event({"error": "boom"}),
    "error": event({"error": {"message": _LEAK, "type": "InternalServerError", "param": None, "code": 500}}),
    "error of the request": event({"error": {"message": "too long", "type": "BadRequestError", "code": 400}}),
    "error list": event({"error": [1]}),
    "error code huge": event({"error": {"message": "x", "code": 10**30}}),
    "flat error": event({"type": "error", "message": _LEAK, "code": "server_error"}),
    "end without a response": b"event: response.completed\ndata: {}\n\n",
    "end with a number": b'event: response.completed\ndata: {"response": 5}\n\n',
    "end failed": b'event: response.failed\ndata: {"type":"response.failed","response":{"output":[]}}\n\n',
}
# Valid parts of a stream that carry no data.
HARMLESS: dict[str, bytes] = {
    "comment": b": ping\n\n",
    "empty lines": b"\n\n\n\n\n\n\n",
    "other fields": b"id: 7\nretry: 1000\n\n",
    "event without data": b"event: response.completed\n\n",
    "page": b"<html>busy</html>\n\n",
}


class FaultyServer:
    """Answers according to `mode`, which a test sets before each request."""

    def __init__(self) -> None:
        self.mode = "fine"
        self.open = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            while await self._answer(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: *(\d+)", head)
        body = await reader.readexactly(int(length[1])) if length else b""
        path = head.split(b" ", 2)[1].decode()
        if path == "/v1/models":
            writer.write(
                http_response(encoded({"data": [{"id": "ada", "root": "/runs/run-1"}, {"id": "base"}]}))
            )
            return True
        streams = bool(re.search(rb'"stream": ?true', body))
        kind, _, name = self.mode.partition(": ")
        if kind == "status":
            status, content, more = STATUSES[name]
            writer.write(http_response(content, status, more))
        elif kind == "body":
            writer.write(http_response(BODIES[name]))
        elif kind == "event":
            writer.write(streamed(path, EVENTS[name]) if streams else valid_answer(path))
        elif kind == "harmless":
            writer.write(streamed(path, HARMLESS[name]) if streams else valid_answer(path))
        elif kind == "crlf":
            writer.write(stream_of(valid_stream(path).replace(b"\n",
            name.encode().decode("unicode_escape").encode()))
                         if streams else valid_answer(path))  # fmt: skip
        elif kind == "fine":
            writer.write(streamed(path) if streams else valid_answer(path))
        else:
            await BEHAVIOURS[name](writer, streams, path)
            return False
        await writer.drain()
        return True


def http_response(content: bytes, status: int = 200, more: bytes = b"") -> bytes:
    length = b"" if status in (204, 304) else b"Content-Length: %d\r\n" % len(content)
    head = b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\n%b%b\r\n" % (status, more, length)
    return head + (content if length else b"")


def stream_head() -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def stream_of(data: bytes) -> bytes:
    return stream_head() + chunked(data) + b"0\r\n\r\n"


def streamed(path: str, middle: bytes = b"") -> bytes:
    first, rest = valid_stream(path).split(b"\n\n", 1)
    return stream_head() + chunked(first + b"\n\n") + chunked(middle + rest) + b"0\r\n\r\n"


def head(path: str, *, chunk: bool = False) -> dict:
    kind = "text_completion" if path == COMPLETIONS else f"chat.completion{'.chunk' if chunk else ''}"
    return {"id": "c1", "object": kind, "created": 1, "model": "ada"}


def piece(path: str, text: str, finish: str | None = None) -> bytes:
    words = {"text": text} if path == COMPLETIONS else {"delta": {"content": text}}
    choice = {"index": 0, **words, "logprobs": None, "finish_reason": finish}
    return event({**head(path, chunk=True), "choices": [choice]})


def response() -> dict:
    part = {"type": "output_text", "text": "Hello there", "annotations": []}
    message = {"id": "m", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    return {"id": "r1", "object": "response", "created_at": 1, "status": "completed", "model": "ada",
            "output": [message], "usage": usage}  # fmt: skip


def valid_stream(path: str) -> bytes:
    """All events of a valid stream."""
    if path == RESPONSES:
        delta = encoded({"type": "response.output_text.delta", "delta": "Hello", "sequence_number": 1})
        end = encoded({"type": "response.completed", "response": response(), "sequence_number": 2})
        return (
            b"event: response.output_text.delta\ndata: " + delta + b"\n\n"
            b"event: response.completed\ndata: " + end + b"\n\n"
        )
    usage = event({**head(path, chunk=True), "choices": [], "usage": USAGE})
    return piece(path, "Hello ") + piece(path, "there", "stop") + usage + b"data: [DONE]\n\n"


def valid_answer(path: str) -> bytes:
    """A valid complete answer."""
    if path == RESPONSES:
        return http_response(encoded(response()))
    text = "Hello there"
    words = {"text": text} if path == COMPLETIONS else {"message": {"role": "assistant", "content": text}}
    choice = {"index": 0, **words, "logprobs": None, "finish_reason": "stop"}
    return http_response(encoded({**head(path), "choices": [choice], "usage": USAGE}))


async def _write(writer: asyncio.StreamWriter, *parts: bytes) -> None:
    for part in parts:
        writer.write(part)
        await writer.drain()
        await asyncio.sleep(0)  # drain alone does not let other connections run


async def _disconnect(writer: asyncio.StreamWriter, streams: bool, path: str) -> None:
    begun = (
        stream_head() + chunked(piece(path, "one "))
        if streams
        else http_response(b'{"id":' + b" " * 5000)[:-100]
    )
    await _write(writer, begun)
    await asyncio.sleep(0.02)
    writer.transport.abort()


async def _disconnect_at_once(writer: asyncio.StreamWriter, _streams: bool, _path: str) -> None:
    writer.transport.abort()


async def _disconnect_after_head(writer: asyncio.StreamWriter, _streams: bool, _path: str) -> None:
    await _write(writer, stream_head())
    writer.transport.abort()


async def _ends_without_done(writer: asyncio.StreamWriter, streams: bool, path: str) -> None:
    await _write(writer, stream_of(piece(path, "one ")) if streams else http_response(b""))


async def _continues_after_done(writer: asyncio.StreamWriter, streams: bool, path: str) -> None:
    await _write(
        writer,
        stream_head() if streams else b"",
        chunked(valid_stream(path)) if streams else valid_answer(path),
    )
    more = chunked(piece(path, "leak")) if streams else b"leak"
    while True:
        await _write(writer, more)


async def _hangs(writer: asyncio.StreamWriter, _streams: bool, _path: str) -> None:
    await asyncio.sleep(60)


async def _head_and_nothing(writer: asyncio.StreamWriter, streams: bool, _path: str) -> None:
    await _write(writer, stream_head() if streams else http_response(b" " * 100)[:-100])
    await asyncio.sleep(60)


async def _byte_by_byte(writer: asyncio.StreamWriter, streams: bool, path: str) -> None:
    await _write(writer, stream_head())
    for byte in valid_stream(path) if streams else encoded(response()) * 9:
        await _write(writer, chunked(bytes([byte])))
        await asyncio.sleep(0.05)


async def _only_comments(writer: asyncio.StreamWriter, _streams: bool, _path: str) -> None:
    await _write(writer, stream_head())
    while True:
        await _write(writer, chunked(b": busy\n\n"))
        await asyncio.sleep(0.02)


async def _steady(writer: asyncio.StreamWriter, _streams: bool, path: str) -> None:
    await _write(writer, stream_head())
    while True:
        await _write(writer, chunked(piece(path, "word ")))
        await asyncio.sleep(0.02)


async def _flood(writer: asyncio.StreamWriter, _streams: bool, path: str) -> None:
    await _write(writer, stream_head())
    for _ in range(5000):
        await _write(writer, chunked(piece(path, "x" * 8000)))


async def _huge_answer(writer: asyncio.StreamWriter, _streams: bool, _path: str) -> None:
    size = 200 << 20
    await _write(
        writer, http_response(b"", more=b"")[:-4].replace(b"Length: 0", b"Length: %d" % size) + b"\r\n\r\n"
    )
    for _ in range(size >> 20):
        await _write(writer, b"x" * (1 << 20))


async def _huge_event(writer: asyncio.StreamWriter, _streams: bool, _path: str) -> None:
    await _write(writer, stream_head())
    for _ in range(60):
        await _write(writer, chunked(b"x" * (1 << 20)))


async def _bad_chunk(writer: asyncio.StreamWriter, _streams: bool, _path: str) -> None:
    await _write(writer, stream_head() + b"zzz\r\nabc\r\n")


async def _gzip_bomb(writer: asyncio.StreamWriter, _streams: bool, _path: str) -> None:
    await _write(
        writer, http_response(gzip.compress(b"0" * (30 << 20), 1), more=b"Content-Encoding: gzip\r\n")
    )


async def _gzip_stream(writer: asyncio.StreamWriter, _streams: bool, path: str) -> None:
    head = stream_head().replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n")
    await _write(writer, head + chunked(gzip.compress(valid_stream(path))) + b"0\r\n\r\n")


async def _huge_head(writer: asyncio.StreamWriter, _streams: bool, _path: str) -> None:
    await _write(writer, b"HTTP/1.1 200 X\r\nX-A: " + b"a" * 100_000 + b"\r\n\r\n")


async def _endless_head(writer: asyncio.StreamWriter, _streams: bool, _path: str) -> None:
    await _write(writer, b"HTTP/1.1 200 X\r\n")
    while True:
        await _write(writer, b"X-A: " + b"a" * 1000 + b"\r\n")


async def _endless_trailers(writer: asyncio.StreamWriter, _streams: bool, _path: str) -> None:
    await _write(writer, stream_head() + b"0\r\n")
    while True:
        await _write(writer, b"X-A: " + b"a" * 1000 + b"\r\n")


async def _only_continue(writer: asyncio.StreamWriter, _streams: bool, _path: str) -> None:
    while True:
        await _write(writer, b"HTTP/1.1 100 Continue\r\n\r\n")
        await asyncio.sleep(0.01)


async def _another_protocol(writer: asyncio.StreamWriter, _streams: bool, _path: str) -> None:
    await _write(writer, b"SSH-2.0-OpenSSH\r\n\r\n")


async def _switches_protocols(writer: asyncio.StreamWriter, _streams: bool, _path: str) -> None:
    await _write(writer, b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")


async def _stream_without_its_type(writer: asyncio.StreamWriter, _streams: bool, path: str) -> None:
    await _write(writer, stream_of(valid_stream(path)).replace(b"text/event-stream", b"text/html"))


BEHAVIOURS: dict[str, Callable[[asyncio.StreamWriter, bool, str], Awaitable[None]]] = {
    name.removeprefix("_").replace("_", " "): behave
    for name, behave in {
        f.__name__: f
        for f in (
            _disconnect, _disconnect_at_once, _disconnect_after_head, _ends_without_done,
            _continues_after_done, _hangs, _head_and_nothing, _byte_by_byte, _only_comments, _steady, _flood,
            _huge_answer, _huge_event, _bad_chunk, _gzip_bomb, _gzip_stream, _huge_head, _endless_head,
            _endless_trailers, _only_continue, _another_protocol, _switches_protocols,
            _stream_without_its_type,
        )
    }.items()
}  # fmt: skip
MODES = [
    "fine",
    *(f"status: {name}" for name in STATUSES),
    *(f"body: {name}" for name in BODIES),
    *(f"event: {name}" for name in EVENTS),
    *(f"harmless: {name}" for name in HARMLESS),
    r"crlf: \r\n",
    r"crlf: \r",
    *(f"behaviour: {name}" for name in BEHAVIOURS),
]
