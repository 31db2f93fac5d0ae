"""The clocks. No other module of the daemon reads one."""

from __future__ import annotations

import time

from nfproxy.health import Instant


def now() -> Instant:
    """Return this moment by both clocks."""
    return Instant(time.monotonic(), time.time_ns())


def monotonic_s() -> float:
    """Return the seconds of the monotonic clock, for durations and deadlines."""
    return time.monotonic()


def thread_s() -> float:
    """Return the processor seconds that this thread has used."""
    return time.thread_time()


def unix_s() -> float:
    """Return the seconds since 1970, for comparisons with other machines' times."""
    return time.time()
