"""
A netlink socket to nf_tables: commit a batch, read a dump.

Calls block; the kernel answers a request before it returns from the system call.
"""

from __future__ import annotations

import errno
import os
import socket

from nfproxy.dataplane import wire
from nfproxy.errors import DataplaneError, TransactionError
from nfproxy.netlink.messages import (
    GENERIC_SIZE,
    NETLINK_CAP_ACK,
    NETLINK_NETFILTER,
    NLM_F_ACK,
    NLM_F_DUMP_INTR,
    NLMSG_DONE,
    NLMSG_ERROR,
    SO_RCVBUFFORCE,
    SO_SNDBUFFORCE,
    SOL_NETLINK,
    error_number,
    messages,
)
from nfproxy.nft import schema

_RECEIVE = 1 << 18
_RETRIES = 8

NOT_PERMITTED = (
    "CAP_NET_ADMIN is missing, or another process owns the table "
    f"(`nft list table ip {schema.TABLE}` shows its flags)"
)


class NetlinkError(DataplaneError):
    """The kernel answered a request with an error number."""

    def __init__(self, number: int, what: str) -> None:
        """Keep the kernel's error number (``errno``); `what` says which request failed."""
        super().__init__(f"{what}: {os.strerror(number)}")
        self.number = number


class Netlink:
    """A socket bound to the network namespace it is made in."""

    def __init__(self) -> None:
        """Open the socket. Raises DataplaneError where the kernel has no nfnetlink."""
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        except OSError as error:
            raise DataplaneError(f"cannot open a netfilter netlink socket: {error}") from error
        self._socket.bind((0, 0))
        self._socket.setsockopt(SOL_NETLINK, NETLINK_CAP_ACK, 1)
        self._sequence = 0
        self._buffer_size = 0
        self._grow(SO_RCVBUFFORCE, 4 << 20)

    @property
    def port(self) -> int:
        """The socket's netlink port, by which notifications name who made a change."""
        port: int = self._socket.getsockname()[0]
        return port

    def close(self) -> None:
        """Close the socket. Nothing in the kernel changes."""
        self._socket.close()

    def commit(self, messages: list[bytes], first: int) -> None:
        """
        Commit messages (numbered from `first`, the last asking for an ACK) as one transaction.

        Raises TransactionError if the kernel refused; then nothing of it is in force.
        """
        last = first + len(messages) - 1
        data = wire.batch(messages, first - 1, last + 1)
        if len(data) > self._buffer_size:
            self._grow(SO_SNDBUFFORCE, len(data) + (1 << 16))
            self._buffer_size = len(data)
        try:
            self._socket.send(data)
        except OSError as error:
            raise TransactionError(f"cannot send a transaction: {error}") from error
        self._collect(last)

    def reserve(self, count: int) -> int:
        """Return the first of `count` fresh sequence numbers (one before and behind kept free)."""
        if self._sequence > 0x7000_0000:
            self._sequence = 0
        first = self._sequence + 2
        self._sequence = first + count + 1
        return first

    def request(self, kind: int, family: int, payload: bytes) -> None:
        """Commit a single message as a transaction of its own."""
        first = self.reserve(1)
        self.commit([wire.message(kind, NLM_F_ACK, first, family, payload)], first)

    def dump(self, kind: int, family: int, *names: str) -> list[bytes]:
        """
        Return the messages of a dump (each without its header): table name, set name.

        Repeated if the ruleset changed meanwhile. Raises NetlinkError, ENOENT included.
        """
        return [data[GENERIC_SIZE:] for data in self.dump_whole(kind, family, *names)]

    def dump_whole(self, kind: int, family: int, *names: str) -> list[bytes]:
        """Return the same with each message's nfgenmsg, which has the ruleset's generation."""
        for _ in range(_RETRIES):
            sequence = self.reserve(1)
            try:
                self._socket.send(wire.dump_request(kind, sequence, family, *names))
                found, interrupted = self._read_dump(sequence, names)
            except OSError as error:
                raise DataplaneError(f"cannot list {_listed(names)}: {error}") from error
            if not interrupted:
                return found
        raise DataplaneError(f"it keeps changing while we list {_listed(names)}")

    def _read_dump(self, sequence: int, names: tuple[str, ...]) -> tuple[list[bytes], bool]:
        found: list[bytes] = []
        interrupted = False
        while True:
            data = self._socket.recv(_RECEIVE)
            for kind, flags, number, start, end, _ in messages(data):
                if number != sequence:
                    continue
                interrupted |= bool(flags & NLM_F_DUMP_INTR)
                if kind == NLMSG_DONE:
                    return found, interrupted
                if kind == NLMSG_ERROR:
                    code = error_number(data, start)
                    if code in (errno.EINTR, errno.EAGAIN):
                        return found, True
                    raise NetlinkError(code, f"cannot list {_listed(names)}")
                found.append(data[start:end])

    def _collect(self, last: int) -> None:
        """Read the answers to a batch: errors, then the ACK of the last message."""
        failure: tuple[int, int] | None = None
        acknowledged = False
        while True:
            try:
                data = self._socket.recv(_RECEIVE, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno == errno.ENOBUFS:  # too many errors to queue: it failed for sure
                    failure = failure or (last, errno.ENOBUFS)
                    continue
                raise
            for kind, _, number, start, _, _ in messages(data):
                if kind != NLMSG_ERROR:
                    continue
                code = error_number(data, start)
                if code:
                    failure = failure or (number, code)
                elif number == last:
                    acknowledged = True
        if failure is not None:
            number, code = failure
            error_name = errno.errorcode.get(code, str(code))
            remedy = f"; {NOT_PERMITTED}" if code == errno.EPERM else ""
            raise TransactionError(
                f"the kernel refused a transaction: {os.strerror(code)} ({error_name}), "
                f"message {number}{remedy}"
            )
        if not acknowledged:
            raise TransactionError("the kernel did not acknowledge a transaction")

    def _grow(self, option: int, size: int) -> None:
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, option, size)
        except PermissionError:
            plain = socket.SO_SNDBUF if option == SO_SNDBUFFORCE else socket.SO_RCVBUF
            self._socket.setsockopt(socket.SOL_SOCKET, plain, size)


def _listed(names: tuple[str, ...]) -> str:
    """Return what a dump is of, for a message."""
    return " ".join(names) or "the ruleset"
