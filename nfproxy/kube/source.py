"""What the daemon asks of a source of objects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from nfproxy.model.changes import Changes, Problem
from nfproxy.model.service import ObjectName

Report = Callable[[Problem], None]


class Source(Protocol):
    """
    The objects of a cluster: from manifest files, or from an API server.

    Use from the event loop: await `load` once, then `changed` and `take` in turns. The caller sets
    the pace: `take` returns all that happened since, as latest values in one batch.
    """

    async def load(self) -> Changes:
        """
        Return all objects; what is absent here does not exist.

        Nothing may be deleted from the kernel before this has returned.
        """
        ...

    async def changed(self) -> None:
        """
        Return when there may be something to take.

        The call may be cancelled; one at a time. A source that cannot be followed for some time
        keeps its objects, reports a problem, and tries again.
        """
        ...

    @property
    def take(self) -> Callable[[], Changes]:
        """The function that returns what differs from all that was returned before."""
        ...

    def source_file(self, service: ObjectName) -> str:
        """Return the file a Service comes from, for messages; "" for an API server."""
        ...

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Everything that is wrong now, sorted, each once."""
        ...
