"""
Accepts connections at a listening socket, also when the process has run out of file descriptors.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
from collections.abc import Callable

from nfproxy.clock import monotonic_s

log = logging.getLogger(__name__)

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

#: How long to accept nothing after that where the reserve is used up, too.
_PAUSE_S = 0.1

#: At most one line in this time about it, of all servers together.
_REPORT_S = 60.0

#: Connections accepted at once; then the event loop serves others, also other sockets' connections.
_AT_ONCE = 16

#: Descriptors in a reserve.
_RESERVE = 4


class Reserve:
    """
    Descriptors that acceptors keep, and give up for connections when the process has no others.

    Several acceptors may share one: then it costs them no more than one of them.
    """

    def __init__(self) -> None:
        """Keep none yet."""
        self._held: list[int] = []

    def fill(self) -> bool:
        """Take what is missing; return whether there is enough."""
        with contextlib.suppress(OSError):
            while len(self._held) < _RESERVE:
                self._held.append(os.eventfd(0, os.EFD_CLOEXEC))
        return len(self._held) == _RESERVE

    def give_up_one(self) -> bool:
        """Make room for one descriptor; return whether there was one to give up."""
        if self._held:
            os.close(self._held.pop())
            return True
        return False

    def close(self) -> None:
        """Give up all. Idempotent."""
        while self.give_up_one():
            pass


class Acceptor:
    """Hands each new connection at a listening socket to a callback, in the event loop."""

    def __init__(
        self,
        listening: socket.socket,
        accepted: Callable[[socket.socket], None],
        make_room: Callable[[], object] = lambda: None,
        reserve: Reserve | None = None,
    ) -> None:
        """
        Accept from now on; the socket belongs to the acceptor until `close`, the reserve does not.

        `make_room` closes a connection if it can.
        """
        self._socket = listening
        self._accepted = accepted
        self._loop = asyncio.get_running_loop()
        self._make_room = make_room
        self._reserve = reserve
        self._resume: asyncio.TimerHandle | None = None
        if reserve is not None:
            reserve.fill()
        self._loop.add_reader(listening, self._accept)

    def close(self) -> None:
        """Accept nothing more. Idempotent."""
        if self._resume is not None:
            self._resume.cancel()
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._socket.close()

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                client, _ = self._socket.accept()
            except OSError as error:
                if error.errno not in _EXHAUSTED:  # none waits, or one that waited is gone
                    return
                _report(error)
                self._make_room()
                if self._reserve is None or not self._reserve.give_up_one():
                    self._pause()
                    return
                self._refill_later()
                continue
            client.setblocking(False)
            self._accepted(client)

    def _pause(self) -> None:
        self._loop.remove_reader(self._socket)
        self._refill_later()

    def _refill_later(self) -> None:
        if self._resume is None:
            self._resume = self._loop.call_later(_PAUSE_S, self._go_on)

    def _go_on(self) -> None:
        self._resume = None
        self._loop.add_reader(self._socket, self._accept)
        if self._reserve is not None and not self._reserve.fill():
            self._refill_later()


_reported_s = -_REPORT_S


def _report(error: OSError) -> None:
    global _reported_s
    now_s = monotonic_s()
    if now_s - _reported_s >= _REPORT_S:
        _reported_s = now_s
        log.error(
            "cannot accept connections: %s; health pages go on from a reserve of file descriptors. "
            "Raise the limit (ulimit -n), and see who holds connections: `ss -tnp`",
            os.strerror(error.errno or 0),
        )
