"""Exponential back-off: how long to wait before the next attempt."""

from __future__ import annotations

from collections.abc import Callable

FIRST_S, LAST_S = 0.1, 30.0  # of requests to the API server
MAX_RETRY_AFTER_S = 60.0  # a longer Retry-After is a mistake of a proxy in between


class Backoff:
    """
    Counts failures in a row and returns waits that double from `first_s` to `last_s`.

    `jitter`, where given, returns numbers from 0 to 1; each takes up to half of a wait away, so
    that the nodes of a cluster do not all return to a restarted API server at once. For one thread.
    """

    def __init__(
        self,
        first_s: float = FIRST_S,
        last_s: float = LAST_S,
        jitter: Callable[[], float] | None = None,
    ) -> None:
        """Start without failures."""
        self._first_s = first_s
        self._last_s = last_s
        self._jitter = jitter
        self.failures = 0

    def next_s(self, retry_after_s: float | None = None) -> float:
        """
        Count a failure and return how long to wait, in seconds.

        `retry_after_s` is the server's Retry-After: the wait is never shorter, up to
        `MAX_RETRY_AFTER_S`.
        """
        self.failures += 1
        # The exponent is bounded because failures may count up for months.
        wait_s = min(self._first_s * 2.0 ** min(self.failures - 1, 16), self._last_s)
        cut_s = wait_s / 2 * self._jitter() if self._jitter else 0.0
        wish_s = min(max(retry_after_s or 0.0, 0.0), MAX_RETRY_AFTER_S)
        # Jitter spreads the nodes after a Retry-After, too: there it makes the wait longer.
        return max(wait_s - cut_s, wish_s + cut_s if wish_s else 0.0)

    def reset(self) -> None:
        """Forget the failures: the next wait is the first again."""
        self.failures = 0
