"""The clocks. No other module of the daemon reads one."""

from __future__ import annotations

import functools
import os
import time
from pathlib import Path

from nfproxy.health import Instant

_LOADED_S = time.monotonic()  # some milliseconds after the process started
_START_FIELD = 22 - 3  # of /proc/PID/stat, behind the name and from 0: ticks since the boot


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


def process_start_s() -> float:
    """Return when this process started, in Unix seconds; always the same."""
    return _process_start()[1]


def process_age_s() -> float:
    """Return for how many seconds this process has run."""
    return time.monotonic() - _process_start()[0]


@functools.lru_cache(maxsize=1)
def _process_start() -> tuple[float, float]:
    """Return when this process started, by the monotonic clock and in Unix seconds."""
    age_s = time.monotonic() - _LOADED_S
    try:
        fields = Path("/proc/self/stat").read_text("ascii", "replace").rpartition(")")[2].split()
        ticks = int(fields[_START_FIELD])
        age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        pass  # the kernel does not say
    return time.monotonic() - age_s, time.time() - age_s
