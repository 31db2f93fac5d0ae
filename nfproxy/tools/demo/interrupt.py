"""
Signals as exceptions, until it is time to clean up.
"""

from __future__ import annotations

import signal
from types import FrameType

_NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """Somebody wants the program to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Interrupts:
    """
    Raises Interrupted in the main thread at SIGINT, SIGTERM and SIGHUP, once.

    After the first signal, and after `hold`, further ones are only noted in `number`, so that
    nothing disturbs cleaning up.
    """

    def __init__(self) -> None:
        self.number = 0
        self._held = False
        for number in _NUMBERS:
            signal.signal(number, self._on_signal)

    def hold(self) -> None:
        """Raise nothing from here on."""
        self._held = True

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.number = self.number or number
        if not self._held:
            self._held = True
            raise Interrupted(number)
