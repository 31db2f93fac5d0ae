"""What the tests of the API server's side share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

FOREVER_S = 60  # only to end a test that fails


@pytest.fixture
def run() -> Callable[[Coroutine[Any, Any, None]], None]:
    """Run a coroutine to its end; a task that it leaves behind fails the test."""

    def runner(coroutine: Coroutine[Any, Any, None]) -> None:
        async def whole() -> None:
            async with asyncio.timeout(FOREVER_S):
                await coroutine
            left = asyncio.all_tasks() - {asyncio.current_task()}
            assert not left, left

        asyncio.run(whole())

    return runner
