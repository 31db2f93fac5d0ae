"""
How long to wait before another try.
"""

from __future__ import annotations

FIRST_S, LAST_S = 0.1, 30.0
LONGEST_WISH_S = 60.0  # of a Retry-After: more is a mistake of something in between


def delay_s(failures: int, chance: float, wish_s: float | None = None) -> float:
    """
    Return how long to wait after `failures` failures in a row, at least one.

    Doubles from `FIRST_S` to `LAST_S`; `chance`, from 0 to 1, takes up to half of it away, so
    that the nodes of a cluster do not all come back to a new API server at once. `wish_s` is
    the server's Retry-After: never less than that, up to `LONGEST_WISH_S`.
    """
    full = min(FIRST_S * 2.0 ** min(failures - 1, 16), LAST_S)
    wish = min(max(wish_s or 0.0, 0.0), LONGEST_WISH_S)
    return max(full * (1 - chance / 2), wish + full * chance / 2 if wish else 0.0)
