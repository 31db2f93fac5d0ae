"""What the tests of the API server's side share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.client.access import kubeconfig
from support.client.certificates import Authority

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


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A CA."""
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a kubeconfig with what is given of cluster and user."""
    return partial(kubeconfig, tmp_path / "kubeconfig")
