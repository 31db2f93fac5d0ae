"""
How large a list may be: in proportion to the last one, so that a cluster may grow.

A server that is broken, or is none, must not fill this process's memory or keep it busy for ever.
"""

from __future__ import annotations

from nfproxy.kube.apistatus import TOO_LONG
from nfproxy.kube.watch import StreamError

#: What one body may have in any case, in bytes. It is in memory as a whole.
BODY_FLOOR_BYTES = 64 << 20
#: What a list in many pages, or in a stream, may have in any case. It is read piece by piece.
LIST_FLOOR_BYTES = 256 << 20
_GROWTH = 4  # times the last complete list
_MB = 1 << 20


class ListBounds:
    """Counts the bytes of the list under way, without compression, and remembers the last list."""

    def __init__(self) -> None:
        """Start without a list."""
        self._last = self._current = 0

    @property
    def body_bytes(self) -> int:
        """How long one body may be."""
        return max(BODY_FLOOR_BYTES, _GROWTH * self._last)

    def begin(self) -> None:
        """A list begins."""
        self._current = 0

    def add(self, size: int) -> None:
        """Count bytes of the list. Raises StreamError if it is too long."""
        self._current += size
        limit = max(LIST_FLOOR_BYTES, _GROWTH * self._last)
        if self._current > limit:
            raise StreamError(
                f"a list is longer than {limit // _MB} MB",
                f"the last complete list had {self._last / _MB:.1f} MB; check what this address "
                "leads to",
                TOO_LONG,
            )

    def complete(self) -> int:
        """The list under way is complete; return its bytes."""
        self._last = self._current
        return self._last
