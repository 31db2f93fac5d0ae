"""The garbage collector around the first planning."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from nfproxy.host.freememory import bulk_load, modules_load, rarely_collected


@pytest.fixture(autouse=True)
def _leave_nothing_frozen() -> Iterator[None]:
    yield
    gc.unfreeze()


@pytest.mark.parametrize("load", [bulk_load, modules_load])
def test_collector_pauses_and_passes_over_what_was_loaded(
    load: Callable[[], AbstractContextManager[None]],
) -> None:
    """It does not run during a load, runs afterwards, and no longer walks what was loaded."""
    before = gc.get_freeze_count()

    with load():
        during = gc.isenabled()
        loaded = [[number] for number in range(1000)]

    assert not during
    assert gc.isenabled()
    assert gc.get_freeze_count() >= before + len(loaded)


def test_collector_runs_rarely_while_lists_come_in() -> None:
    """It runs, as that may take any time, and as before afterwards."""
    before = gc.get_threshold()
    with rarely_collected():
        assert gc.isenabled()
        assert gc.get_threshold()[0] > 10 * before[0]

    assert gc.get_threshold() == before


def test_collector_runs_again_after_a_failed_load() -> None:
    """A load that raises leaves the collector as one that succeeds does."""
    with pytest.raises(RuntimeError), bulk_load():
        raise RuntimeError("no kernel")

    assert gc.isenabled()
