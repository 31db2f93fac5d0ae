"""
The clocks, read at the edge.
"""

from __future__ import annotations

import time

from nfproxy.health import Instant


def now() -> Instant:
    """Return this moment."""
    return Instant(time.monotonic(), time.time_ns())
