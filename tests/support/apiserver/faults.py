"""What the stand-in does wrong because a test asked for it."""

from __future__ import annotations

import asyncio

import msgspec
from support.apiserver.status import StatusError, injected


class Refusal(msgspec.Struct):
    """The next `times` requests to a resource ("": all) are answered with `code`."""

    resource: str
    verb: str
    code: int
    times: int
    retry_after_s: int | None
    body: bytes | None
    headers: dict[str, str] = {}

    def fits(self, resource: str, verb: str) -> bool:
        """Return whether a request is meant."""
        return self.resource in ("", resource) and self.verb in ("", verb)


class Faults:
    """All that is wrong at the moment. `gate` is closed while the server is frozen."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self._refusals: list[Refusal] = []
        self._list_speed: dict[str, float] = {}

    def add(self, refusal: Refusal) -> None:
        """Refuse requests to come."""
        self._refusals.append(refusal)

    def end(self) -> None:
        """Let nothing be wrong any more."""
        self._refusals.clear()
        self._list_speed.clear()
        self.gate.set()

    def refusal(self, resource: str, verb: str) -> Refusal | None:
        """Return how this request is to be refused, and count it."""
        for refusal in self._refusals:
            if refusal.fits(resource, verb):
                refusal.times -= 1
                if not refusal.times:
                    self._refusals.remove(refusal)
                return refusal
        return None

    def slow_lists(self, resource: str, bytes_per_s: float | None) -> None:
        """Send lists of a resource ("": all) at a speed; None: as fast as it goes."""
        if bytes_per_s is None:
            self._list_speed.pop(resource, None)
        else:
            self._list_speed[resource] = bytes_per_s

    def list_speed(self, resource: str) -> float | None:
        """Return the bytes per second at which a list is sent; None: as fast as it goes."""
        return self._list_speed.get(resource, self._list_speed.get(""))


def refused(refusal: Refusal) -> StatusError:
    """Return what is answered."""
    return injected(refusal.code, refusal.retry_after_s)
