"""
The kernel's word on who changed our tables.

Every commit is announced to the multicast group of nf_tables, and each message carries the
netlink port of the socket it was asked for on. So a stranger's change (``nft flush ruleset`` of a
firewall that reloads, say) is told from our own without reading anything back.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import socket
import struct

from nfproxy.dataplane.wire import SUBSYSTEM
from nfproxy.errors import DataplaneError
from nfproxy.model.addresses import FAMILIES
from nfproxy.netlink import (
    GENERIC_SIZE,
    NETLINK_ADD_MEMBERSHIP,
    NETLINK_NETFILTER,
    SO_ATTACH_FILTER,
    SO_RCVBUFFORCE,
    SOL_NETLINK,
    attributes,
    messages,
)
from nfproxy.nft.schema import TABLE

_NFNLGRP_NFTABLES = 7
_NEWGEN = 15
_GEN_PROC_PID, _GEN_PROC_NAME = 2, 3
_TABLE = 1  # of every kind of message the table's name is the first attribute type
_RECEIVE = 1 << 17
_BUFFER = 8 << 20  # bytes, for the announcements of another proxy's first load
_AT_A_TIME = 64  # buffers read before others get their turn
_KEPT_PORTS = 64

#: Classic BPF: (code, jump if true, jump if false, operand).
_LOAD_WORD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_PORT_OFFSET = 12  # of nlmsg_pid in nlmsghdr

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
        try:
            self._socket = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, NETLINK_NETFILTER
            )
            self._socket.bind((0, 0))
            with contextlib.suppress(PermissionError):  # without privileges: more is lost, told so
                self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, buffer)
            _attach(self._socket, own_port)
            self._socket.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, _NFNLGRP_NFTABLES)
        except OSError as error:
            raise DataplaneError(f"cannot listen to nf_tables: {error}") from error

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
                data = self._socket.recv(_RECEIVE)
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


def _attach(sock: socket.socket, port: int) -> None:
    """
    Let pass only what does not begin with a message of `port`.

    The kernel announces each commit in buffers of its own, so a buffer's first message speaks
    for all. Loads are big endian there, the port is in host order.
    """
    swapped = int.from_bytes(struct.pack("=I", port & 0xFFFFFFFF), "big")
    program = b"".join(
        struct.pack("=HBBI", *instruction)
        for instruction in (
            (_LOAD_WORD, 0, 0, _PORT_OFFSET),
            (_JUMP_IF_EQUAL, 0, 1, swapped),
            (_RETURN, 0, 0, 0),
            (_RETURN, 0, 0, 0xFFFFFFFF),
        )
    )
    buffer = ctypes.create_string_buffer(program)
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, header)
