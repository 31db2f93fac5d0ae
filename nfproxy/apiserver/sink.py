"""
Whom a reflector tells.
"""

from __future__ import annotations

from typing import Protocol

from msgspec import Raw


class Sink(Protocol):
    """Who is told what a resource holds, in this order: begin, put …, end, put, remove …"""

    def begin_list(self) -> None:
        """A list begins (anew)."""
        ...

    def put(self, data: Raw) -> None:
        """An object as it is now."""
        ...

    def remove(self, data: Raw) -> None:
        """An object that is gone, as it was last."""
        ...

    def end_list(self) -> None:
        """The list is complete."""
        ...

    def trouble(self, text: str) -> None:
        """Nothing can be followed at the moment; may be told again and again."""
        ...

    def well(self) -> None:
        """All is well (again)."""
        ...

    def unavailable(self) -> None:
        """The API server does not have the resource, or will not tell us; we keep asking."""
        ...
