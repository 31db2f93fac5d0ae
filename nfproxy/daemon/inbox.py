"""
Awaiting what comes next, or the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from typing import Any, TypeVar

from nfproxy.model.changes import Changes

T = TypeVar("T")


class Inbox:
    """Awaits what a stream of changes yields next, without losing it when time runs out."""

    def __init__(self, stream: AsyncGenerator[Changes, None], bell: asyncio.Event) -> None:
        self._stream = stream
        self._bell = bell
        self._upcoming: asyncio.Future[Changes] | None = None

    async def next(self, stopped: asyncio.Future[Any], timeout_s: float) -> Changes | None:
        """Return the next changes; None when time runs out, at the bell, or on being stopped."""
        if self._upcoming is None:
            self._upcoming = asyncio.ensure_future(anext(self._stream))
        rung = asyncio.ensure_future(self._bell.wait())
        awaited: tuple[asyncio.Future[Any], ...] = (stopped, self._upcoming, rung)
        await asyncio.wait(awaited, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        rung.cancel()
        self._bell.clear()
        if not self._upcoming.done():
            return None
        changes, self._upcoming = self._upcoming.result(), None
        return changes

    async def aclose(self) -> None:
        """Close the stream."""
        if self._upcoming is not None:
            self._upcoming.cancel()
            await asyncio.gather(self._upcoming, return_exceptions=True)
        await self._stream.aclose()


async def unless(stopped: asyncio.Future[Any], work: Coroutine[Any, Any, T]) -> T | None:
    """Return what `work` does, None when we are to stop before that."""
    task = asyncio.ensure_future(work)
    both: tuple[asyncio.Future[Any], ...] = (stopped, task)
    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        return task.result()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return None
