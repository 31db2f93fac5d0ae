"""Which endpoint a client of a node port on a loopback address gets, over TCP and UDP alike."""

from __future__ import annotations

import random
from collections.abc import Callable

from nfproxy.plan.localnodeports import LocalNodePort, Target


class EndpointChoice:
    """Draws endpoints for one listener, which has one pin: all clients on this host are one."""

    def __init__(self, wanted: LocalNodePort, clock: Callable[[], float]) -> None:
        """Begin without a pin."""
        self.wanted = wanted
        self._clock = clock
        self._pin: tuple[Target, float] | None = None

    def change(self, wanted: LocalNodePort) -> None:
        """Take over other endpoints or another timeout."""
        if wanted.affinity_s != self.wanted.affinity_s:
            self._pin = None
        self.wanted = wanted

    def draw(self) -> Target:
        """Return the endpoint of the next connection, which renews the pin."""
        targets, timeout_s = self.wanted.targets, self.wanted.affinity_s
        if timeout_s is None:
            return random.choice(targets)  # noqa: S311 - it balances load
        now_s = self._clock()
        if self._pin is not None and self._pin[1] > now_s and self._pin[0] in targets:
            target = self._pin[0]
        else:
            target = random.choice(targets)  # noqa: S311 - it balances load
        self._pin = (target, now_s + timeout_s)
        return target
