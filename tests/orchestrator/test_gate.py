"""The gate in front of vLLM, and the circuit breakers."""

import asyncio

import pytest

from services.errors import RateLimited
from services.orchestrator.vllm.circuit_breaker import (
    MAX_FAILURES,
    PAUSE_S,
    CircuitBreaker,
    OwnerCircuitBreaker,
)
from services.orchestrator.vllm.concurrency import ConcurrencyLimiter


async def test_no_more_than_its_places_are_in_work_and_they_come_in_order():
    gate, order, most = ConcurrencyLimiter(2, 10, 5), [], 0

    async def work(number: int) -> None:
        nonlocal most
        async with gate.slot():
            most = max(most, gate.running)
            order.append(number)
            await asyncio.sleep(0)

    await asyncio.gather(*(work(number) for number in range(10)))
    assert most == 2
    assert order == list(range(10))
    assert (gate.running, gate.waiting) == (0, 0)


async def test_beyond_the_queue_it_refuses_and_says_when_to_come_back():
    gate = ConcurrencyLimiter(1, 1, 5)
    async with gate.slot():
        waiting = asyncio.create_task(_through(gate))
        await asyncio.sleep(0)
        with pytest.raises(RateLimited) as refused:
            await _through(gate)
        assert refused.value.retry_after_s > 0
    await waiting


async def test_who_waits_too_long_is_told_so_and_leaves_the_queue():
    gate = ConcurrencyLimiter(1, 1, 0.01)
    async with gate.slot():
        with pytest.raises(RateLimited, match=r"0\.01 s"):
            await _through(gate)
        assert gate.waiting == 0


async def test_a_place_is_free_again_when_its_work_was_cancelled_or_who_waited_went_away():
    gate = ConcurrencyLimiter(1, 5, 5)
    holder = asyncio.create_task(_held(gate))
    await asyncio.sleep(0)
    gone = asyncio.create_task(_through(gate))
    await asyncio.sleep(0)
    gone.cancel()
    holder.cancel()
    await asyncio.gather(holder, gone, return_exceptions=True)
    await _through(gate)
    assert (gate.running, gate.waiting) == (0, 0)


async def _through(gate: ConcurrencyLimiter) -> None:
    async with gate.slot():
        pass


async def _held(gate: ConcurrencyLimiter) -> None:
    async with gate.slot():
        await asyncio.Event().wait()


class TestBreaker:
    @pytest.fixture
    def now(self) -> list[float]:
        return [100.0]

    @pytest.fixture
    def breaker(self, now: list[float]) -> CircuitBreaker:
        return CircuitBreaker(lambda: now[0])

    def test_it_opens_after_failures_in_a_row_only(self, breaker: CircuitBreaker):
        for _ in range(MAX_FAILURES - 1):
            breaker.failed("down")
        breaker.succeeded()
        breaker.failed("down")
        assert breaker.pause_s() == 0
        for _ in range(MAX_FAILURES):
            breaker.failed("down")
        assert breaker.pause_s() > 0
        assert breaker.reason == "down"

    def test_after_the_pause_one_tries_and_the_others_wait_for_it(
        self, breaker: CircuitBreaker, now: list[float]
    ):
        for _ in range(MAX_FAILURES):
            breaker.failed("down")
        now[0] += PAUSE_S
        assert breaker.pause_s() == 0
        assert breaker.pause_s() == PAUSE_S
        breaker.failed("still down")
        assert breaker.pause_s() == PAUSE_S

    def test_one_success_closes_it(self, breaker: CircuitBreaker, now: list[float]):
        for _ in range(MAX_FAILURES):
            breaker.failed("down")
        now[0] += PAUSE_S
        breaker.pause_s()
        breaker.succeeded()
        assert [breaker.pause_s(), breaker.pause_s()] == [0, 0]


class TestOwnersBreaker:
    @pytest.fixture
    def now(self) -> list[float]:
        return [100.0]

    @pytest.fixture
    def breaker(self, now: list[float]) -> OwnerCircuitBreaker:
        return OwnerCircuitBreaker(lambda: now[0])

    def test_an_owner_who_is_always_late_waits_alone(self, breaker: OwnerCircuitBreaker):
        for _ in range(MAX_FAILURES * 10):
            breaker.timed_out("slow", "too late")
        assert breaker.pause_s("slow") > 0
        assert breaker.reason("slow") == "too late"
        assert breaker.pause_s("other") == 0
        assert not breaker.is_open

    def test_an_answer_to_others_does_not_let_the_late_one_in(self, breaker: OwnerCircuitBreaker):
        for _ in range(MAX_FAILURES):
            breaker.timed_out("slow", "too late")
            breaker.succeeded("other")
        assert breaker.pause_s("slow") > 0

    def test_a_failure_of_the_service_is_everybodys(self, breaker: OwnerCircuitBreaker, now: list[float]):
        for _ in range(MAX_FAILURES):
            breaker.failed("the index is away")
        assert breaker.is_open
        assert breaker.pause_s("one") > 0
        assert breaker.reason("one") == "the index is away"
        now[0] += PAUSE_S
        assert [breaker.pause_s("one"), breaker.pause_s("two")] == [0, PAUSE_S]
        breaker.succeeded("one")
        assert breaker.pause_s("two") == 0

    def test_an_owner_who_was_answered_begins_anew(self, breaker: OwnerCircuitBreaker):
        for _ in range(3):
            for _ in range(MAX_FAILURES - 1):
                breaker.timed_out("one", "too late")
            breaker.succeeded("one")
        assert breaker.pause_s("one") == 0

    def test_a_late_owners_try_is_not_taken_from_the_others(
        self, breaker: OwnerCircuitBreaker, now: list[float]
    ):
        for _ in range(MAX_FAILURES):
            breaker.failed("away")
            breaker.timed_out("slow", "too late")
        now[0] += PAUSE_S / 2
        breaker.timed_out("slow", "too late")
        now[0] += PAUSE_S / 2
        assert breaker.pause_s("slow") > 0
        assert breaker.pause_s("other") == 0
