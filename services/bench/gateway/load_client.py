"""The clients, each with a connection of its own and a marker that must come back to it and nobody else."""

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
    """What came of many requests."""

    answered: int = 0
    lost: int = 0  # no answer, or one that is cut or an error
    mixed_up: int = 0  # somebody else's marker

    def count(self, complete: bool, told: bytes, marker: str) -> None:
        """Count an answer of which `told` came."""
        mine = f'"content":"{marker}"'.encode()
        if not complete or CONTENT not in told:
            self.lost += 1
        elif told.count(CONTENT) != told.count(mine):
            self.mixed_up += 1
        else:
            self.answered += 1


class Client:
    """One connection. It speaks as little HTTP as it takes, so that the clients are not what is measured."""

    def __init__(self, port: int, key: str, name: str, ada: dict[str, object] | None = None) -> None:
        self._port = port
        head = ("Host: ada", "Content-Type: application/json", f"Authorization: Bearer {key}")
        self._head = "\r\n".join([f"POST {PATH} HTTP/1.1", *head, ""])
        self._name = name
        self._ada = {"diary": False} if ada is None else ada
        self._asked = 0

    async def connect(self) -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 20)

    def close(self) -> None:
        self._writer.close()

    async def whole(self, tally: LoadStats) -> None:
        """Ask for an answer in one piece."""
        marker = self._ask(stream=False)
        head = await self._reader.readuntil(b"\r\n\r\n")
        body = await self._reader.readexactly(_length(head))
        tally.count(head.startswith(OK), body, marker)

    async def streamed(self, tally: LoadStats, question: str = QUESTION) -> float:
        """Ask for a stream; returns the milliseconds to its first token."""
        began = time.perf_counter()
        marker = self._ask(stream=True, question=question)
        first_ms, told = 0.0, b""
        while not told.endswith(END):
            piece = await self._reader.read(1 << 16)
            if not piece:
                break
            told += piece
            if not first_ms and CONTENT in told:
                first_ms = 1000 * (time.perf_counter() - began)
        tally.count(told.startswith(OK) and DONE in told, told, marker)
        return first_ms

    def _ask(self, *, stream: bool, question: str = QUESTION) -> str:
        self._asked += 1
        marker = f"marker-{self._name}-{self._asked}"
        turn = {"role": "user", "content": f"{question} {marker}"}
        asked = {"model": "ada", "messages": [turn], "stream": stream, "ada": self._ada}
        body = json.dumps(asked).encode()
        self._writer.write(f"{self._head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        return marker


def _length(head: bytes) -> int:
    line = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
    return int(line.partition(b":")[2])
