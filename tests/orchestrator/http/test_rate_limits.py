"""How much a key may ask. A minute is one second here.

.venv/bin/python -m pytest tests/orchestrator/http/test_rate_limits.py
"""

import time

import pytest

from services.errors import RateLimited
from services.orchestrator.http.auth import Caller
from services.orchestrator.http.limits import RateLimits

DREW, MILA = Caller("drew", "drews"), Caller("mila", "milas")


def limits(requests: int = 0, tokens: int = 0) -> RateLimits:
    return RateLimits(requests, tokens, window_s=1)


def test_without_limits_there_are_no_headers_and_no_refusals():
    free = limits()
    for _ in range(1000):
        assert free.admit(DREW) == {}
        free.spend(DREW, 10**9)


def test_requests_beyond_the_limit_are_refused():
    some = limits(requests=3)
    assert [some.admit(DREW)["x-ratelimit-remaining-requests"] for _ in range(3)] == ["2", "1", "0"]
    with pytest.raises(RateLimited, match="rate limit reached: 3 requests a minute for this key") as refused:
        some.admit(DREW)
    assert 0 < refused.value.retry_after_s <= 1


def test_refused_requests_do_not_delay_the_next_window():
    some = limits(requests=2)
    for _ in range(20):
        try:
            some.admit(DREW)
        except RateLimited as refused:
            wait_s = refused.retry_after_s
    time.sleep(wait_s + 0.05)
    assert some.admit(DREW)["x-ratelimit-remaining-requests"] == "1"


def test_the_requests_of_one_key_do_not_count_for_another():
    some = limits(requests=1)
    some.admit(DREW)
    some.admit(MILA)
    with pytest.raises(RateLimited):
        some.admit(DREW)


def test_two_keys_of_one_owner_are_counted_apart():
    some = limits(requests=1)
    some.admit(DREW)
    some.admit(Caller("drew", "another"))


@pytest.mark.parametrize(("own", "allowed"), [(None, 2), (5, 5), (1, 1), (0, 9)])
def test_a_keys_own_limit_comes_before_the_default_and_0_is_none(own: int | None, allowed: int):
    some, caller = limits(requests=2, tokens=2), Caller("drew", "drews", own, own)
    for _ in range(allowed):
        some.admit(caller)
        some.spend(caller, 1)
    if own == 0:
        return
    with pytest.raises(RateLimited, match=f"{allowed} tokens a minute"):
        some.admit(caller)
    with pytest.raises(RateLimited, match=f"{allowed} requests a minute"):
        some.count(caller)


def test_an_answer_may_exceed_the_tokens_and_the_next_one_waits():
    some = limits(tokens=100)
    some.admit(DREW)
    some.spend(DREW, 99)
    assert some.admit(DREW)["x-ratelimit-remaining-tokens"] == "1"
    some.spend(DREW, 500)
    with pytest.raises(RateLimited, match="100 tokens a minute"):
        some.admit(DREW)


def test_requests_without_tokens_continue_when_the_tokens_are_spent():
    some = limits(requests=10, tokens=1)
    some.spend(DREW, 5)
    with pytest.raises(RateLimited):
        some.admit(DREW)
    assert some.count(DREW)["x-ratelimit-remaining-requests"] == "9"  # what was refused was not counted


def test_an_answer_without_tokens_starts_no_window():
    some = limits(tokens=10)
    some.spend(DREW, 0)
    assert some.admit(DREW)["x-ratelimit-reset-tokens"] == "0.000s"


def test_the_headers_are_openais():
    headers = limits(requests=3, tokens=100).admit(DREW)
    assert set(headers) == {
        f"x-ratelimit-{part}-{what}"
        for part in ("limit", "remaining", "reset")
        for what in ("requests", "tokens")
    }
    assert (headers["x-ratelimit-limit-requests"], headers["x-ratelimit-limit-tokens"]) == ("3", "100")
    assert 0 < float(headers["x-ratelimit-reset-requests"].removesuffix("s")) <= 1


def test_counts_are_deleted_after_their_window():
    """Else every key that ever was would stay in memory."""
    now = [0.0]
    some = RateLimits(5, 5, clock=lambda: now[0])
    for number in range(200):
        caller = Caller("drew", f"key-{number}")
        some.admit(caller)
        some.spend(caller, 1)
    now[0] = 61.0
    some.admit(DREW)
    assert len(some._windows) <= 1


def test_setting_the_clock_back_does_not_lock_a_key_out(monkeypatch):
    some = RateLimits(1, 0, window_s=1)
    some.admit(DREW)
    an_hour_ago = time.time() - 3600
    monkeypatch.setattr(time, "time", lambda: an_hour_ago)
    with pytest.raises(RateLimited) as refused:
        some.admit(DREW)
    assert refused.value.retry_after_s <= 1
    time.sleep(refused.value.retry_after_s + 0.01)
    assert some.admit(DREW)["x-ratelimit-reset-requests"] <= "1.000s"
