"""The gate in front of vLLM, and the circuit breaker."""

import asyncio

import pytest

from services.errors import TooMuch
from services.orchestrator.engine.breaker import FAILURES, PAUSE_S, Breaker
from services.orchestrator.engine.gate import Gate


async def test_no_more_than_its_places_are_in_work_and_they_come_in_order():
    gate, order, most = Gate(2, 10, 5), [], 0

    async def work(number: int) -> None:
        nonlocal most
        async with gate.place():
            most = max(most, gate.running)
            order.append(number)
            await asyncio.sleep(0)

    await asyncio.gather(*(work(number) for number in range(10)))
    assert most == 2
    assert order == list(range(10))
    assert (gate.running, gate.waiting) == (0, 0)


async def test_beyond_the_queue_it_refuses_and_says_when_to_come_back():
    gate = Gate(1, 1, 5)
    async with gate.place():
        waiting = asyncio.create_task(_through(gate))
        await asyncio.sleep(0)
        with pytest.raises(TooMuch) as refused:
            await _through(gate)
        assert refused.value.retry_after_s > 0
    await waiting


async def test_who_waits_too_long_is_told_so_and_leaves_the_queue():
    gate = Gate(1, 1, 0.01)
    async with gate.place():
        with pytest.raises(TooMuch, match=r"0\.01 s"):
            await _through(gate)
        assert gate.waiting == 0


async def test_a_place_is_free_again_when_its_work_was_cancelled_or_who_waited_went_away():
    gate = Gate(1, 5, 5)
    holder = asyncio.create_task(_held(gate))
    await asyncio.sleep(0)
    gone = asyncio.create_task(_through(gate))
    await asyncio.sleep(0)
    gone.cancel()
    holder.cancel()
    await asyncio.gather(holder, gone, return_exceptions=True)
    await _through(gate)
    assert (gate.running, gate.waiting) == (0, 0)


async def _through(gate: Gate) -> None:
    async with gate.place():
        pass


async def _held(gate: Gate) -> None:
    async with gate.place():
        await asyncio.Event().wait()


class TestBreaker:
    @pytest.fixture
    def now(self) -> list[float]:
        return [100.0]

    @pytest.fixture
    def breaker(self, now: list[float]) -> Breaker:
        return Breaker(lambda: now[0])

    def test_it_opens_after_failures_in_a_row_only(self, breaker: Breaker):
        for _ in range(FAILURES - 1):
            breaker.failed("down")
        breaker.succeeded()
        breaker.failed("down")
        assert breaker.pause_s() == 0
        for _ in range(FAILURES):
            breaker.failed("down")
        assert breaker.pause_s() > 0
        assert breaker.reason == "down"

    def test_after_the_pause_one_tries_and_the_others_wait_for_it(self, breaker: Breaker, now: list[float]):
        for _ in range(FAILURES):
            breaker.failed("down")
        now[0] += PAUSE_S
        assert breaker.pause_s() == 0
        assert breaker.pause_s() == PAUSE_S
        breaker.failed("still down")
        assert breaker.pause_s() == PAUSE_S

    def test_one_success_closes_it(self, breaker: Breaker, now: list[float]):
        for _ in range(FAILURES):
            breaker.failed("down")
        now[0] += PAUSE_S
        breaker.pause_s()
        breaker.succeeded()
        assert [breaker.pause_s(), breaker.pause_s()] == [0, 0]
