"""
How soon what somebody else changed in our tables is repaired.
"""

from __future__ import annotations

_WINDOW_S = 60.0
_AT_ONCE = 3  # changes within the window
_FIRST_S, _LAST_S = 0.25, 30.0


class Repairs:
    """
    Repairs at once what happens now and then, and later and later what happens again and again.

    A firewall that reloads, or an administrator at work, makes a few changes in a row; two programs
    that each want a table to be theirs must not take turns for ever: whoever goes on so is answered
    later each time, until a quiet minute has passed after a repair. The time is an argument.
    """

    def __init__(self) -> None:
        self._changes: list[float] = []  # within the window
        self._delay_s = 0.0
        self._due = float("-inf")

    @property
    def due_s(self) -> float:
        """When the repair is due that mends everything changed so far."""
        return self._due

    def changed(self, now_s: float) -> float | None:
        """
        Take a change by somebody else; return in how many seconds to repair it.

        None where a repair is still to come that does it, too.
        """
        if now_s < self._due:
            return None
        self._changes = [when for when in self._changes if now_s - when < _WINDOW_S]
        if now_s - self._due >= _WINDOW_S:  # since the last repair: they have given up
            self._delay_s = 0.0
        if self._delay_s or len(self._changes) >= _AT_ONCE:
            self._delay_s = min(max(2 * self._delay_s, _FIRST_S), _LAST_S)
        self._changes.append(now_s)
        self._due = now_s + self._delay_s
        return self._delay_s
