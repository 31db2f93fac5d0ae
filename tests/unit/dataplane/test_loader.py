"""The child process that loads scripts for a kernel: how long it serves."""

import pytest
from support.kernel.watched import PROGRAM, Watched

from nfproxy.errors import TransactionError


def test_one_child_serves_several_loads_and_ends_when_it_rests(watched: Watched) -> None:
    """To start one takes ten times as long as a script; waiting, it takes memory."""
    first = watched.kernel._loader
    assert first is not None
    watched.namespace.call(watched.kernel.expect_load)
    watched.load(PROGRAM)
    watched.kernel.rest()
    assert watched.kernel._loader is first
    assert watched.kernel.rest_at is not None
    watched.rest()

    assert (watched.kernel._loader, watched.kernel.rest_at) == (None, None)
    assert first.child._process.returncode is not None


def test_a_child_that_ended_is_replaced(watched: Watched) -> None:
    """Memory ran out, say, while it waited."""
    first = watched.kernel._loader
    assert first is not None
    first.child._process.kill()
    first.child._process.wait()
    watched.load(PROGRAM)

    assert watched.kernel._loader not in (None, first)
    assert watched.reported() == ""


def test_after_a_failure_no_script_goes_to_the_same_child(watched: Watched) -> None:
    """What it left in the socket would be taken for the next script's answers."""
    first = watched.kernel._loader
    with pytest.raises(TransactionError):
        watched.load("add chain ip absent web\n")
    assert watched.kernel._loader is None
    watched.load(PROGRAM)

    assert watched.kernel._loader not in (None, first)


def test_what_was_prepared_does_not_stay(watched: Watched) -> None:
    """A child that waits for a script ends with the kernel's end, and changes nothing."""
    watched.rest()
    watched.namespace.call(watched.kernel.expect_load)
    waiting = watched.kernel._loader
    assert waiting is not None
    watched.kernel.close()

    assert watched.kernel._loader is None
    assert waiting.child._process.returncode is not None
