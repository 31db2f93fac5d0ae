"""
The kernel's word on who changed our tables.

Every commit is announced to the multicast group of nf_tables, and each message carries the
netlink port of the socket it was asked for on. So a stranger's change (``nft flush ruleset`` of a
firewall that reloads, say) is told from our own without reading anything back.
"""

from __future__ import annotations

import errno

from nfproxy.dataplane.announcements import RECEIVE, listen
from nfproxy.dataplane.wire import SUBSYSTEM
from nfproxy.model.addresses import FAMILIES
from nfproxy.netlink.messages import GENERIC_SIZE, attributes, messages
from nfproxy.nft.schema import TABLE

_NEWGEN = 15
_GEN_PROC_PID, _GEN_PROC_NAME = 2, 3
_TABLE = 1  # of every kind of message the table's name is the first attribute type
_BUFFER = 8 << 20  # bytes, for the announcements of another proxy's first load
_AT_A_TIME = 64  # buffers read before others get their turn
_KEPT_PORTS = 64

_TABLE_BYTES = TABLE.encode() + b"\0"


class Notifications:
    """
    Tells of changes to our tables that are not ours; made in the network namespace to watch.

    A socket filter keeps the announcements of our own bulk commits from being copied at all.
    """

    def __init__(self, own_port: int, buffer: int = _BUFFER) -> None:
        """Listen; `own_port` is the netlink port that commits elements. Raises DataplaneError."""
        self._own = {own_port}
        self._other_ports: list[int] = []
        self._suspect = False
        self._socket = listen(own_port, ours=False, buffer=buffer)

    def fileno(self) -> int:
        """Return what becomes readable when something was announced."""
        return self._socket.fileno()

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()

    def expect(self, port: int) -> None:
        """Take changes of another netlink port, a child's, for our own."""
        self._other_ports = [*self._other_ports[-_KEPT_PORTS:], port]
        self._own = {*self._own, port}

    def read(self) -> str:
        """
        Return who changed our tables since the last call, "" where nobody did.

        ``nft (pid 4711)``, or that announcements were lost, which may hide a change. There may be
        more to read afterwards.
        """
        culprit = ""
        for _ in range(_AT_A_TIME):
            try:
                data = self._socket.recv(RECEIVE)
            except BlockingIOError:
                return culprit
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                culprit = culprit or "somebody (announcements were lost)"
                continue
            culprit = self._read(data) or culprit
        return culprit

    def _read(self, data: bytes) -> str:
        """
        Return who is behind a change of ours in some messages.

        The name comes at the end of a commit, with the new generation's number. Others' large
        tables must not keep us busy, so what does not hold our table's name is not taken apart.
        """
        culprit = ""
        if not self._suspect and _TABLE_BYTES not in data:
            return culprit
        for kind, _, _, start, end, port in messages(data):
            if port in self._own or kind >> 8 != SUBSYSTEM:
                continue
            if kind & 0xFF == _NEWGEN:
                if self._suspect:
                    self._suspect = False
                    culprit = _name(data, start, end)
            elif data[start] in FAMILIES and _is_ours(data, start, end):
                self._suspect = True
        return culprit


def _is_ours(data: bytes, start: int, end: int) -> bool:
    return any(
        kind == _TABLE and data[a:b] == _TABLE_BYTES
        for kind, a, b in attributes(data, start + GENERIC_SIZE, end)
    )


def _name(data: bytes, start: int, end: int) -> str:
    values = {kind: data[a:b] for kind, a, b in attributes(data, start + GENERIC_SIZE, end)}
    name = values.get(_GEN_PROC_NAME, b"").rstrip(b"\0").decode("utf-8", "replace")
    pid = int.from_bytes(values.get(_GEN_PROC_PID, b"\0"), "big")
    return f"{name if name.isprintable() and name else 'a process'} (pid {pid})"
