"""
Bounds on log lines: an object that changes all the time, or a fault that repeats, does not fill the
disk, and does not take the processor.

Lines are of one kind if they have one text before values are put into it. Where a line is about an
object (``extra={"about": …}``), each object has lines of its own. What is left out is counted, and
the next line of the kind says so.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable

import msgspec

from nfproxy.clock import monotonic_s
from nfproxy.text import plural

Kind = tuple[str, str, str]  # logger, text, what it is about


class Limit(msgspec.Struct, frozen=True):
    """So many lines at once, and so many a second afterwards."""

    at_once: int
    per_s: float


#: Of one kind; of one kind about one object; of all kinds together.
OF_KIND, OF_OBJECT, OF_ALL = Limit(200, 5.0), Limit(50, 0.5), Limit(2000, 50.0)

#: Of a logger whose lines an operator has asked for, one for each change.
OF_CHANGES = Limit(2000, 100.0)

_MOST_KINDS = 4096  # remembered


class _Allowance:
    """How many lines may still come, and how many were left out."""

    def __init__(self, limit: Limit, now_s: float) -> None:
        self.left_out = 0
        self._limit = limit
        self._lines = float(limit.at_once)
        self._at_s = now_s

    def takes(self, now_s: float) -> bool:
        """Count a line; return whether it may come."""
        gained = (now_s - self._at_s) * self._limit.per_s
        self._lines, self._at_s = min(self._lines + gained, self._limit.at_once), now_s
        if self._lines < 1.0:
            return False
        self._lines -= 1.0
        return True


class FloodFilter(logging.Filter):
    """Lets bounded numbers of lines through. `changes` is the logger that has `OF_CHANGES`."""

    def __init__(self, changes: str, clock: Callable[[], float] = monotonic_s) -> None:
        """Start without a line."""
        super().__init__()
        self._changes = changes
        self._clock = clock
        self._kinds: OrderedDict[Kind, _Allowance] = OrderedDict()
        self._all = _Allowance(OF_ALL, clock())

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a line may come; it says how many did not. The handler locks."""
        if record.levelno <= logging.DEBUG:
            return True
        now_s = self._clock()
        is_change = record.name == self._changes
        allowance = self._of(record, now_s, is_change=is_change)
        if not allowance.takes(now_s) or not (is_change or self._all.takes(now_s)):
            allowance.left_out += 1
            return False
        if allowance.left_out:
            count = plural(allowance.left_out, "more line")
            record.msg = f"{record.getMessage()} ({count} like this left out)"
            record.args = ()
            allowance.left_out = 0
        return True

    def _of(self, record: logging.LogRecord, now_s: float, *, is_change: bool) -> _Allowance:
        about = str(getattr(record, "about", ""))
        kind = (record.name, str(record.msg), about)
        found = self._kinds.get(kind)
        if found is None:
            limit = OF_CHANGES if is_change else OF_OBJECT if about else OF_KIND
            found = self._kinds[kind] = _Allowance(limit, now_s)
            if len(self._kinds) > _MOST_KINDS:
                self._kinds.popitem(last=False)
        self._kinds.move_to_end(kind)
        return found
