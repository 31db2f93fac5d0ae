"""
What the daemon asks of a source of objects.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Protocol

from nfproxy.model.changes import Changes, Problem
from nfproxy.model.service import ObjectName

Report = Callable[[Problem], None]


class Source(Protocol):
    """
    A cluster as somebody tells it: manifest files, or an API server.

    Use: await `load` once, then iterate over `changes` once. Whoever iterates sets the pace:
    what happens between two steps arrives as one batch holding only the latest values, so a
    slow consumer costs nothing but freshness.
    """

    async def load(self) -> Changes:
        """
        Return everything there is, complete: what is absent here does not exist.

        Nothing may be deleted from the kernel before this has returned.
        """
        ...

    def changes(self) -> AsyncIterator[Changes]:
        """
        Yield what differs from all that was told before, never an empty batch.

        Goes on for ever; a source that fails keeps what it knew in force, reports, and
        tries again.
        """
        ...

    def source_file(self, service: ObjectName) -> str:
        """Return where a Service comes from, such as a file, for messages; "" for an API server."""
        ...

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Everything that is wrong now, sorted, each once."""
        ...
