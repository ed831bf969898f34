"""The limit on concurrent requests to vLLM."""

import asyncio

import pytest

from services.errors import RateLimited
from services.orchestrator.vllm.concurrency import ConcurrencyLimiter


async def test_no_more_requests_run_than_there_are_slots_and_they_run_in_order():
    limiter, order, peak = ConcurrencyLimiter(2, 10, 5), [], 0

    async def work(number: int) -> None:
        nonlocal peak
        async with limiter.slot():
            peak = max(peak, limiter.running)
            order.append(number)
            await asyncio.sleep(0)

    await asyncio.gather(*(work(number) for number in range(10)))
    assert peak == 2
    assert order == list(range(10))
    assert (limiter.running, limiter.waiting) == (0, 0)


async def test_a_full_queue_rejects_requests_and_says_when_to_retry():
    limiter = ConcurrencyLimiter(1, 1, 5)
    async with limiter.slot():
        waiting = asyncio.create_task(_use_slot(limiter))
        await asyncio.sleep(0)
        with pytest.raises(RateLimited) as error:
            await _use_slot(limiter)
        assert error.value.retry_after_s > 0
    await waiting


async def test_a_request_that_waits_too_long_is_rejected_and_leaves_the_queue():
    limiter = ConcurrencyLimiter(1, 1, 0.01)
    async with limiter.slot():
        with pytest.raises(RateLimited, match=r"0\.01 s"):
            await _use_slot(limiter)
        assert limiter.waiting == 0


async def test_a_slot_is_free_again_after_its_request_or_a_waiting_one_was_cancelled():
    limiter = ConcurrencyLimiter(1, 5, 5)
    holder = asyncio.create_task(_hold_slot(limiter))
    await asyncio.sleep(0)
    waiter = asyncio.create_task(_use_slot(limiter))
    await asyncio.sleep(0)
    waiter.cancel()
    holder.cancel()
    await asyncio.gather(holder, waiter, return_exceptions=True)
    await _use_slot(limiter)
    assert (limiter.running, limiter.waiting) == (0, 0)


async def _use_slot(limiter: ConcurrencyLimiter) -> None:
    async with limiter.slot():
        pass


async def _hold_slot(limiter: ConcurrencyLimiter) -> None:
    async with limiter.slot():
        await asyncio.Event().wait()
