"""Clients for load tests. Each sends markers, which must come back to it and to no other client."""

import asyncio
import json
import time
from dataclasses import dataclass

OK, DONE, END = b"HTTP/1.1 200", b"[DONE]", b"0\r\n\r\n"
CONTENT = b'"content":"'
QUESTION = "Hello, whose dog was it?"
PATH = "/v1/chat/completions"


@dataclass
class LoadStats:
    """The outcomes of many requests."""

    answered: int = 0
    lost: int = 0  # no answer, an incomplete one, or an error
    mixed_up: int = 0  # with the marker of another request

    def count(self, complete: bool, response: bytes, marker: str) -> None:
        """Count a response to the request with `marker`."""
        expected = f'"content":"{marker}"'.encode()
        if not complete or CONTENT not in response:
            self.lost += 1
        elif response.count(CONTENT) != response.count(expected):
            self.mixed_up += 1
        else:
            self.answered += 1


class Client:
    """One connection. It does as little HTTP as possible, so that the client itself is not measured."""

    def __init__(self, port: int, key: str, name: str, ada: dict[str, object] | None = None) -> None:
        self._port = port
        head = ("Host: ada", "Content-Type: application/json", f"Authorization: Bearer {key}")
        self._head = "\r\n".join([f"POST {PATH} HTTP/1.1", *head, ""])
        self._name = name
        self._ada = {"diary": False} if ada is None else ada
        self._requests = 0

    async def connect(self) -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 20)

    def close(self) -> None:
        self._writer.close()

    async def whole(self, stats: LoadStats) -> None:
        """Request an answer that is not streamed."""
        marker = self._send(stream=False)
        head = await self._reader.readuntil(b"\r\n\r\n")
        body = await self._reader.readexactly(_length(head))
        stats.count(head.startswith(OK), body, marker)

    async def streamed(self, stats: LoadStats, question: str = QUESTION) -> float:
        """Request a stream; returns the time to its first token in ms."""
        start = time.perf_counter()
        marker = self._send(stream=True, question=question)
        first_ms, response = 0.0, b""
        while not response.endswith(END):
            piece = await self._reader.read(1 << 16)
            if not piece:
                break
            response += piece
            if not first_ms and CONTENT in response:
                first_ms = 1000 * (time.perf_counter() - start)
        stats.count(response.startswith(OK) and DONE in response, response, marker)
        return first_ms

    def _send(self, *, stream: bool, question: str = QUESTION) -> str:
        self._requests += 1
        marker = f"marker-{self._name}-{self._requests}"
        turn = {"role": "user", "content": f"{question} {marker}"}
        request = {"model": "ada", "messages": [turn], "stream": stream, "ada": self._ada}
        body = json.dumps(request).encode()
        self._writer.write(f"{self._head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        return marker


def _length(head: bytes) -> int:
    line = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
    return int(line.partition(b":")[2])
