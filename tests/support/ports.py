"""Ports for servers of tests."""

import socket


def free_ports(count: int) -> list[int]:
    """Return ports that no socket listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for opened in sockets:
        opened.bind(("", 0))
    ports = [int(opened.getsockname()[1]) for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports
