"""Circuit breakers: of a whole service, and of one owner."""

import pytest

from services.orchestrator.vllm.circuit_breaker import (
    MAX_FAILURES,
    PAUSE_S,
    CircuitBreaker,
    OwnerCircuitBreaker,
)


class TestCircuitBreaker:
    @pytest.fixture
    def now(self) -> list[float]:
        return [100.0]

    @pytest.fixture
    def breaker(self, now: list[float]) -> CircuitBreaker:
        return CircuitBreaker(lambda: now[0])

    def test_it_opens_only_after_failures_in_a_row(self, breaker: CircuitBreaker):
        for _ in range(MAX_FAILURES - 1):
            breaker.failed("down")
        breaker.succeeded()
        breaker.failed("down")
        assert breaker.pause_s() == 0
        for _ in range(MAX_FAILURES):
            breaker.failed("down")
        assert breaker.pause_s() > 0
        assert breaker.reason == "down"

    def test_after_the_pause_one_caller_tries_and_the_others_wait(
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


class TestOwnerCircuitBreaker:
    @pytest.fixture
    def now(self) -> list[float]:
        return [100.0]

    @pytest.fixture
    def breaker(self, now: list[float]) -> OwnerCircuitBreaker:
        return OwnerCircuitBreaker(lambda: now[0])

    def test_only_the_owner_whose_requests_time_out_has_to_wait(self, breaker: OwnerCircuitBreaker):
        for _ in range(MAX_FAILURES * 10):
            breaker.timed_out("slow", "too late")
        assert breaker.pause_s("slow") > 0
        assert breaker.reason("slow") == "too late"
        assert breaker.pause_s("other") == 0
        assert not breaker.is_open

    def test_a_success_of_another_owner_does_not_close_it(self, breaker: OwnerCircuitBreaker):
        for _ in range(MAX_FAILURES):
            breaker.timed_out("slow", "too late")
            breaker.succeeded("other")
        assert breaker.pause_s("slow") > 0

    def test_a_failure_of_the_service_counts_for_all_owners(
        self, breaker: OwnerCircuitBreaker, now: list[float]
    ):
        for _ in range(MAX_FAILURES):
            breaker.failed("the index is away")
        assert breaker.is_open
        assert breaker.pause_s("first") > 0
        assert breaker.reason("first") == "the index is away"
        now[0] += PAUSE_S
        assert [breaker.pause_s("first"), breaker.pause_s("second")] == [0, PAUSE_S]
        breaker.succeeded("first")
        assert breaker.pause_s("second") == 0

    def test_a_success_resets_an_owners_count(self, breaker: OwnerCircuitBreaker):
        for _ in range(3):
            for _ in range(MAX_FAILURES - 1):
                breaker.timed_out("first", "too late")
            breaker.succeeded("first")
        assert breaker.pause_s("first") == 0

    def test_a_timeout_of_one_owner_does_not_delay_the_others_attempt(
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
