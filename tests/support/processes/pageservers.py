"""Page servers for tests: started for one test, at a port of the kernel's choice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from nfproxy.servers.pages import Page
from nfproxy.servers.serving import PageServer

LOCAL = "127.0.0.1:0"
_PATIENCE_S = 20.0


@asynccontextmanager
async def serving(page: Page, address: str = LOCAL) -> AsyncIterator[tuple[str, int]]:
    """Serve a page and yield host and port."""
    server = PageServer("test", address, page)
    task = asyncio.create_task(server.run())
    try:
        await until(lambda: bool(server.listening) or task.done())
        yield server.listening[0]
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(claim: Callable[[], bool]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(_PATIENCE_S):
        while not claim():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.005)
