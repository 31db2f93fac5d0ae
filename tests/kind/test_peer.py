"""The peer measures the network, not the machine that it runs on."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from kind.clients import Client
from kind.objects import PEER

pytestmark = pytest.mark.doubles

_PATIENCE_S = 1.0
_STOPPED_S = 2.0


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A socket that listens, and whose connections the test answers."""
    with closing(socket.create_server(("127.0.0.1", 0))) as made:
        yield made


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """The peer."""
    argv = [sys.executable, str(PEER), "ask"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as made:
        yield made
        made.kill()


@pytest.fixture
def client(process: subprocess.Popen[bytes]) -> Iterator[Client]:
    """Who asks by that peer."""
    with closing(Client("here", lambda: process, _PATIENCE_S)) as made:
        yield made


def test_a_pause_of_the_client_is_no_lost_packet(
    client: Client, process: subprocess.Popen[bytes], listener: socket.socket
) -> None:
    """The machine stops it for longer than its patience, and the answer comes meanwhile."""
    load = client.load("127.0.0.1", listener.getsockname()[1], rate=0.1)
    load.PATIENCE_S = _PATIENCE_S
    with load:
        asked = listener.accept()[0]
        process.send_signal(signal.SIGSTOP)
        asked.sendall(b"here 127.0.0.1\n")
        time.sleep(_STOPPED_S)
        process.send_signal(signal.SIGCONT)
        load.wait_until_done(1)
        asked.close()

    assert load.figures.failures == []
    assert load.figures.answers == {"here": 1}


def test_no_answer_is_a_lost_packet(client: Client, listener: socket.socket) -> None:
    """No process accepts the connection."""
    began = time.monotonic()
    (answer,) = client.ask("127.0.0.1", listener.getsockname()[1])

    assert str(answer) == "dropped"
    assert _PATIENCE_S <= time.monotonic() - began < 3 * _PATIENCE_S
