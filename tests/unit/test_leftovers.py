"""What the check around every test allows, and what it finds."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from support.leftovers import NOTHING, Leftovers, held

pytestmark = pytest.mark.doubles


@pytest.fixture(scope="module")
def server() -> Iterator[socket.socket]:
    """A server of the module."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


@pytest.fixture
def check(server: socket.socket) -> Leftovers:
    """The check, as it is when a test starts."""
    made = Leftovers()
    made._allowed = held()
    return made


def test_a_connection_that_a_server_of_the_module_has_accepted_is_its_own(
    server: socket.socket, check: Leftovers
) -> None:
    """A daemon that another test started connects whenever it has something to send."""
    with socket.create_connection(server.getsockname()), server.accept()[0] as accepted:
        new = held().minus(check._allowed).sockets
        assert len(new) == 2
        assert [number for number, _ in check._accepted(new)] == [str(accepted.fileno())]


def test_a_server_of_the_test_is_left(check: Leftovers, monkeypatch: pytest.MonkeyPatch) -> None:
    """And so is what that accepted."""
    monkeypatch.setattr("support.leftovers.GRACE_S", 0.1)
    with (
        socket.create_server(("127.0.0.1", 0)) as mine,
        socket.create_connection(mine.getsockname()),
        mine.accept()[0],
    ):
        assert len(check._left().sockets) == 3
    assert check._left() == NOTHING
