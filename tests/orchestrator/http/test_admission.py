"""Requests that come together begin one after the other, in order, and one that fails stops none."""

import asyncio
import json

from api import CHAT
from hypothesis import given
from hypothesis import strategies as st

from services.orchestrator.http.admission import AdmissionQueue


def begun(pieces: int, failing: frozenset[int] = frozenset()) -> list[list[int]]:
    """What was done in each turn of the loop, of pieces that all come in the first."""

    async def run() -> list[list[int]]:
        loop, queue, turns = asyncio.get_running_loop(), AdmissionQueue(), [[]]
        loop.set_exception_handler(lambda _loop, _context: None)

        def work(number: int) -> None:
            turns[-1].append(number)
            if number in failing:
                raise RuntimeError("this one's own fault")

        for number in range(pieces):
            try:
                queue.submit(loop, lambda number=number: work(number))
            except RuntimeError:
                assert number == 0  # nobody else's
        while sum(map(len, turns)) < pieces:
            turns.append([])
            await asyncio.sleep(0)
        return turns

    return asyncio.run(run())


@given(st.integers(1, 30), st.frozensets(st.integers(0, 29)))
def test_one_request_starts_in_each_turn_of_the_loop_in_order_of_arrival(
    pieces: int, failing: frozenset[int]
):
    turns = begun(pieces, failing)
    assert [number for turn in turns for number in turn] == list(range(pieces))
    assert max(map(len, turns)) == 1


async def test_a_request_starts_at_once_when_none_waits():
    loop, queue, done = asyncio.get_running_loop(), AdmissionQueue(), []
    for number in range(3):
        queue.submit(loop, lambda number=number: done.append(number))
        assert done[-1] == number
        await asyncio.sleep(0)
        await asyncio.sleep(0)


def post(marker: str) -> bytes:
    """A request whose answer is its marker."""
    turn = {"role": "user", "content": marker}
    body = json.dumps({"model": "ada", "messages": [turn], "ada": {"diary": False}}).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def send_pipelined(port: int, markers: list[str], size: int) -> list[str]:
    """Send requests one after another on one connection, in pieces of `size` bytes; return the answers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    sent = b"".join(map(post, markers))
    for start in range(0, len(sent), size):
        writer.write(sent[start : start + size])
        await writer.drain()
        await asyncio.sleep(0)
    answers = []
    for _ in markers:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        body = json.loads(await reader.readexactly(int(head.split("content-length: ")[1].split()[0])))
        answers.append(body["choices"][0]["message"]["content"])
    writer.close()
    return answers


async def test_requests_in_pieces_on_many_connections_do_not_get_mixed_up(server, port: int, model):
    model.answer = lambda body: body["messages"][-1]["content"]
    markers = {size: [f"{size}-{number}" for number in range(5)] for size in (7, 50, 300, 10_000)}
    answers = await asyncio.gather(*(send_pipelined(port, markers[size], size) for size in markers))
    assert answers == list(markers.values())
