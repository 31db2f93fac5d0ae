"""Ports for servers of tests."""

import itertools
import os
import socket

# All processes of a run share a network namespace. Each has ports of its own, and none that the
# kernel gives to clients: no other takes one between the look at it and its use.
_FIRST, _EACH, _PROCESSES = 12_000, 1_000, 16
_PROCESS = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _PROCESSES
_numbers = itertools.cycle(range(_FIRST + _EACH * _PROCESS, _FIRST + _EACH * (_PROCESS + 1)))


def free_ports(count: int) -> list[int]:
    """Return ports without a socket, of TCP or UDP; no other test gets them soon."""
    found = (number for number in itertools.islice(_numbers, _EACH) if _is_free(number))
    ports = list(itertools.islice(found, count))
    assert len(ports) == count, "too few ports are free"
    return ports


def _is_free(port: int) -> bool:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as opened:
            try:
                opened.bind(("", port))
            except OSError:
                return False
    return True
