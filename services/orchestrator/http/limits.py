"""Rate limits of a key: requests a minute, and tokens of prompt and answer together.

Fixed windows: a key's minute begins with its first request and ends 60 s later, for all that was counted in
it. The counts are kept in this process's memory: each orchestrator counts for itself, and a restart begins
anew. The package `limits` counts by the wall clock in memory: it would need a storage class as long as
FixedWindows, and took 14 µs of a request for both limits instead of 4.
"""

import math
import time
from collections.abc import Callable

from services.errors import RateLimited
from services.orchestrator.http.auth import Caller

REQUESTS, TOKENS = "requests", "tokens"
WindowKey = tuple[str, str, int]  # what is counted, the key's id, and the limit: a new limit begins a window


class RateLimits:
    """Counts the requests and tokens of each key.

    The limits given are for keys without limits of their own; 0 is none.
    """

    def __init__(
        self,
        requests_a_minute: int,
        tokens_a_minute: int,
        window_s: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._default = {REQUESTS: requests_a_minute, TOKENS: tokens_a_minute}
        self._clock = clock
        self._windows = FixedWindows(window_s, clock)

    def admit(self, caller: Caller) -> dict[str, str]:
        """Count a request that is going to cost tokens; returns OpenAI's headers for both limits.

        Raises RateLimited: for tokens, when earlier answers have used them up.
        """
        window = self._window(TOKENS, caller)
        if window and self._windows.count(window)[0] >= window[2]:
            raise self._exceeded(window)
        return self.count(caller) | self._headers(window)

    def count(self, caller: Caller) -> dict[str, str]:
        """Count a request that costs no tokens; returns OpenAI's headers. Raises RateLimited."""
        window = self._window(REQUESTS, caller)
        if window and self._windows.add(window, 1) > window[2]:
            raise self._exceeded(window)
        return self._headers(window)

    def spend(self, caller: Caller, tokens: int) -> None:
        """Count the tokens of an answer, which are known only at its end and may exceed the limit."""
        window = self._window(TOKENS, caller)
        if window and tokens > 0:
            self._windows.add(window, tokens)

    def _window(self, unit: str, caller: Caller) -> WindowKey | None:
        own = caller.requests_a_minute if unit == REQUESTS else caller.tokens_a_minute
        limit = self._default[unit] if own is None else own
        return (unit, caller.key_id, limit) if limit else None

    def _headers(self, window: WindowKey | None) -> dict[str, str]:
        if window is None:
            return {}
        unit, _, limit = window
        count, ends = self._windows.count(window)
        return {
            f"x-ratelimit-limit-{unit}": str(limit),
            f"x-ratelimit-remaining-{unit}": str(max(0, limit - count)),
            f"x-ratelimit-reset-{unit}": f"{max(0.0, ends - self._clock()):.3f}s",
        }

    def _exceeded(self, window: WindowKey) -> RateLimited:
        unit, _, limit = window
        wait_s = max(0.0, self._windows.count(window)[1] - self._clock())
        return RateLimited(
            f"rate limit reached: {limit} {unit} a minute for this key; "
            f"try again in {max(1, math.ceil(wait_s))} s",
            wait_s,
        )


class FixedWindows:
    """Counts in windows of `window_s` seconds, each begun by its first count.

    By a clock that never goes back: set back by an hour, the wall clock would lock a key out for that hour.
    """

    def __init__(self, window_s: float, clock: Callable[[], float]) -> None:
        self._window_s = window_s
        self._clock = clock
        self._swept_at = clock()
        self._windows: dict[WindowKey, tuple[int, float]] = {}  # the count, and when the window ends

    def __len__(self) -> int:
        return len(self._windows)

    def count(self, key: WindowKey) -> tuple[int, float]:
        """The count in a key's window, and the clock's time when it ends; 0 and now without a window."""
        now = self._clock()
        window = self._windows.get(key)
        return window if window and now < window[1] else (0, now)

    def add(self, key: WindowKey, amount: int) -> int:
        """Add to the count of a key's window, or of a new one; returns the count."""
        count, ends = self.count(key)
        if not count:
            ends = self._clock() + self._window_s
            self._drop_ended()
        self._windows[key] = (count + amount, ends)
        return count + amount

    def _drop_ended(self) -> None:
        """Without it every key that was ever used would stay in memory; once a window is enough."""
        now = self._clock()
        if now >= self._swept_at + self._window_s:
            self._swept_at = now
            self._windows = {key: window for key, window in self._windows.items() if now < window[1]}
