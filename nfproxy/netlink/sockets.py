"""
Netlink sockets: send a request, read a listing, commit a transaction.

All sockets of nfproxy are opened here. Calls block, but not for long: the kernel answers a request
before the system call that sends it returns.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator, Sequence

from nfproxy.closing import Closing
from nfproxy.errors import DataplaneError, TransactionError, reason_of
from nfproxy.model.addresses import Family
from nfproxy.netlink.elements import Listed, element_question, listed_elements
from nfproxy.netlink.messages import (
    NLM_F_ACK,
    NLM_F_DUMP,
    NLM_F_DUMP_INTR,
    NLMSG_DONE,
    NLMSG_ERROR,
    error_number,
    generic,
    message,
    messages,
    string,
)
from nfproxy.netlink.nftables import (
    GET_CHAIN,
    GET_ELEMENTS,
    GET_FLOWTABLE,
    GET_OBJECT,
    GET_RULE,
    GET_SET,
    GET_TABLE,
    SUBSYSTEM,
    ChainRow,
    ObjectRow,
    Request,
    RuleRow,
    SetRow,
    TableRow,
    batch,
)
from nfproxy.nft.schema import TABLE

# What the module socket does not name.
NETLINK_NETFILTER = 12
SOL_NETLINK, NETLINK_ADD_MEMBERSHIP = 270, 1
SO_ATTACH_FILTER, SO_RCVBUFFORCE = 26, 33
_NETLINK_CAP_ACK, NETLINK_EXT_ACK = 10, 11
_SO_SNDBUFFORCE = 32

_MOST_BYTES = (1 << 30) - 1  # the kernel doubles a buffer's size, and has 31 bits for it
_LEAST_BYTES = 2048
_BEHIND_BUFFER = 512  # the kernel wants 32 bytes for itself; the rest is a batch's begin and end

_RECEIVE = 1 << 18
_RECEIVE_BUFFER = 4 << 20
_TRIES = 8
_ASKED_AT_ONCE = 64  # the kernel answers within the system call; so many answers fit the buffer
_RESTART_AT = 0x7000_0000  # sequence numbers have 32 bits; a transaction uses one per message


def code_of(number: int) -> str:
    """Return the `code` of a DataplaneError or TransactionError that the kernel's errno causes."""
    return errno.errorcode.get(number, str(number))


ABSENT = code_of(errno.ENOENT)
NOT_PERMITTED = code_of(errno.EPERM)

NOT_PERMITTED_REMEDY = (
    "give nfproxy the capability NET_ADMIN; if it has that, another process owns the table "
    f"(`nft list table ip {TABLE}` shows its flags)"
)


def open_socket(
    protocol: int = NETLINK_NETFILTER, *, groups: int = 0, blocking: bool = True
) -> socket.socket:
    """
    Return a netlink socket of this network namespace, subscribed to multicast groups 1 to 32.

    Raises DataplaneError.
    """
    kind = socket.SOCK_RAW | (0 if blocking else socket.SOCK_NONBLOCK)
    name = "netfilter" if protocol == NETLINK_NETFILTER else "routing"
    try:
        opened = socket.socket(socket.AF_NETLINK, kind, protocol)
        opened.bind((0, groups))
        # Errors come without a copy of the request, which may be megabytes.
        opened.setsockopt(SOL_NETLINK, _NETLINK_CAP_ACK, 1)
    except OSError as error:
        raise DataplaneError(f"cannot open a {name} netlink socket: {reason_of(error)}") from error
    return opened


def grow_buffer(sock: socket.socket, option: int, size: int) -> None:
    """
    Give a socket a buffer of so many bytes, by SO_SNDBUFFORCE or SO_RCVBUFFORCE.

    That takes CAP_NET_ADMIN outside every user namespace. Without it the system's limit applies
    (sysctls net.core.wmem_max and rmem_max), and the buffer is smaller.
    """
    try:
        sock.setsockopt(socket.SOL_SOCKET, option, size)
    except PermissionError:
        plain = socket.SO_SNDBUF if option == _SO_SNDBUFFORCE else socket.SO_RCVBUF
        sock.setsockopt(socket.SOL_SOCKET, plain, size)


def send_limit(sock: socket.socket) -> int | None:
    """
    Return the most bytes that the kernel takes from a socket at once, None for no limit.

    Without CAP_NET_ADMIN outside every user namespace that is the system's limit
    (net.core.wmem_max); the socket has such a buffer afterwards.
    """
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _RECEIVE)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _MOST_BYTES)
        size = sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        return max(size - _BEHIND_BUFFER, _LEAST_BYTES)
    return None


def open_script_socket() -> socket.socket:
    """
    Return a socket for one script of libnftables, with the largest buffer that it may have.

    libnftables itself keeps to the default size in a user namespace. Raises DataplaneError.
    """
    opened = open_socket(blocking=False)
    opened.setsockopt(SOL_NETLINK, NETLINK_EXT_ACK, 1)  # as libnftables does
    send_limit(opened)
    return opened


class NetlinkSocket(Closing):
    """
    A socket of the network namespace that it is made in, whichever thread uses it later.

    One thread at a time. A context manager.
    """

    def __init__(self, protocol: int = NETLINK_NETFILTER) -> None:
        """Open the socket. Raises DataplaneError if the kernel lacks the protocol."""
        self._socket = open_socket(protocol)
        self._sequence = 0
        grow_buffer(self._socket, SO_RCVBUFFORCE, _RECEIVE_BUFFER)

    def close(self) -> None:
        """Close the socket. Nothing in the kernel changes. Idempotent."""
        self._socket.close()

    @property
    def port(self) -> int:
        """The socket's netlink port; notifications name the port that a change came from."""
        port: int = self._socket.getsockname()[0]
        return port

    def request(self, kind: int, payload: bytes, what: str, flags: int = 0) -> None:
        """
        Send one request and wait until the kernel has done it.

        `what` says for an error what it does. Raises DataplaneError with the errno's name as code.
        """
        sequence = self._reserve(1)
        try:
            self._socket.send(message(kind, flags | NLM_F_ACK, sequence, payload))
            while True:
                data = self._socket.recv(_RECEIVE)
                for answer, _, number, start, _, _ in messages(data):
                    if number == sequence and answer == NLMSG_ERROR:
                        _raise_for(error_number(data, start), what)
                        return
        except OSError as error:
            raise DataplaneError(f"cannot {what}: {reason_of(error)}") from error

    def dump(self, kind: int, payload: bytes, what: str) -> list[bytes]:
        """
        Return the payloads of a listing's messages; `what` says for an error what is listed.

        Lists again if the kernel says that something changed meanwhile. Raises DataplaneError with
        the errno's name as code, ABSENT included.
        """
        for _ in range(_TRIES):
            sequence = self._reserve(1)
            try:
                self._socket.send(message(kind, NLM_F_DUMP, sequence, payload))
                found = self._read_dump(sequence, what)
            except OSError as error:
                raise DataplaneError(f"cannot list {what}: {reason_of(error)}") from error
            if found is not None:
                return found
        raise DataplaneError(f"cannot list {what}: it keeps changing meanwhile")

    def ask_each(self, kind: int, payloads: Sequence[bytes], what: str) -> list[bytes | int]:
        """
        Return for each request the payload of its answer, or the errno with which it failed.

        For requests that the kernel answers with one message. Raises DataplaneError where the
        socket fails; `what` says for it what is asked.
        """
        answers: list[bytes | int] = []
        for start in range(0, len(payloads), _ASKED_AT_ONCE):
            portion = payloads[start : start + _ASKED_AT_ONCE]
            first = self._reserve(len(portion))
            try:
                self._socket.send(
                    b"".join(message(kind, 0, first + i, p) for i, p in enumerate(portion))
                )
                answers += self._read_each(first, len(portion))
            except OSError as error:
                raise DataplaneError(f"cannot ask for {what}: {reason_of(error)}") from error
        return answers

    def _read_each(self, first: int, count: int) -> list[bytes | int]:
        found: dict[int, bytes | int] = {}
        while len(found) < count:
            data = self._socket.recv(_RECEIVE)
            for kind, _, number, start, end, _ in messages(data):
                if first <= number < first + count:
                    is_error = kind == NLMSG_ERROR
                    found[number] = error_number(data, start) if is_error else data[start:end]
        return [found[first + index] for index in range(count)]

    def _read_dump(self, sequence: int, what: str) -> list[bytes] | None:
        """Return the payloads of a listing, None if it was interrupted by a change."""
        found: list[bytes] = []
        interrupted = False
        while True:
            data = self._socket.recv(_RECEIVE)
            for kind, flags, number, start, end, _ in messages(data):
                if number != sequence:  # the rest of a listing that an error cut short
                    continue
                interrupted |= bool(flags & NLM_F_DUMP_INTR)
                if kind in (NLMSG_DONE, NLMSG_ERROR):
                    code = error_number(data, start)
                    if interrupted or code in (errno.EINTR, errno.EAGAIN):
                        return None
                    _raise_for(code, f"list {what}")
                    return found
                found.append(data[start:end])

    def _reserve(self, count: int) -> int:
        """Return the first of `count` new sequence numbers; one before and one behind are free."""
        if self._sequence > _RESTART_AT:
            self._sequence = 0
        first = self._sequence + 2
        self._sequence = first + count
        return first


class NftSocket(NetlinkSocket):
    """
    A socket to nf_tables. Family 0 in a listing is every family.

    `send_limit` is the most bytes that a transaction may have, None for no limit.
    """

    def __init__(self) -> None:
        """Open the socket. Raises DataplaneError if the kernel has no nfnetlink."""
        super().__init__()
        self._send_buffer = 0
        self.send_limit = send_limit(self._socket)

    def tables(self, family: int = 0) -> list[TableRow]:
        """Return the tables of a family."""
        return [TableRow.read(data) for data in self._list(GET_TABLE, family)]

    def chains(self, family: int = 0, table: str = "") -> list[ChainRow]:
        """Return the chains of a table, or of all tables; none if there is no such table."""
        # The kernel does not select chains by table: that is done here.
        rows = (ChainRow.read(data) for data in self._list(GET_CHAIN, family))
        return [row for row in rows if not table or row.table == table]

    def sets(self, family: int, table: str, *, with_anonymous: bool = False) -> list[SetRow]:
        """Return the named sets and maps of a table, and those that are part of rules if asked."""
        rows = (SetRow.read(data) for data in self._list(GET_SET, family, table))
        return [row for row in rows if with_anonymous or not row.is_anonymous]

    def objects(self, family: int, table: str) -> list[ObjectRow]:
        """Return the named objects of a table, such as counters."""
        return [ObjectRow.read(data) for data in self._list(GET_OBJECT, family, table)]

    def flowtables(self, family: int, table: str) -> list[str]:
        """Return the names of a table's flowtables."""
        return [SetRow.read(data).name for data in self._list(GET_FLOWTABLE, family, table)]

    def rules(self, family: int, table: str, chain: str = "") -> Iterator[RuleRow]:
        """Yield the rules of a table or of one chain, by chain and in order."""
        names = (table, chain) if chain else (table,)
        return (RuleRow.read(data) for data in self._list(GET_RULE, family, *names))

    def elements(self, family: int, table: str, name: str) -> list[bytes]:
        """
        Return the messages of a set's listing, each with its nfgenmsg; ``elements`` reads them.

        Raises DataplaneError, with code ABSENT if there is no such set.
        """
        return self._list(GET_ELEMENTS, family, table, name)

    def find_elements(
        self, family: Family, name: str, keys: Sequence[bytes], table: str = TABLE
    ) -> list[Listed]:
        """
        Return those elements of a set of nfproxy's that have one of some keys; not of intervals.

        Raises DataplaneError.
        """
        payloads = [generic(family) + element_question(family, name, key, table) for key in keys]
        what = f"elements of {name}"
        found: list[Listed] = []
        for answer in self.ask_each(SUBSYSTEM << 8 | GET_ELEMENTS, payloads, what):
            if isinstance(answer, bytes):
                found += listed_elements(answer)
            elif answer != errno.ENOENT:
                _raise_for(answer, f"ask for {what}")
        return found

    def _list(self, kind: int, family: int, *names: str) -> list[bytes]:
        # In each of these requests the table is attribute 1, and a chain or set attribute 2.
        payload = b"".join(string(index + 1, name) for index, name in enumerate(names))
        what = " ".join(names) or "the ruleset"
        return self.dump(SUBSYSTEM << 8 | kind, generic(family) + payload, what)

    def commit(self, requests: Sequence[Request]) -> None:
        """
        Commit requests as one transaction. Without any it waits for its turn, and does nothing.

        Raises TransactionError if the kernel refuses; then it has changed nothing. The code is the
        errno's name of the first request that failed.
        """
        first = self._reserve(len(requests))
        data = batch(requests, first)
        # The kernel takes a transaction in one buffer or not at all.
        if len(data) > self._send_buffer:
            grow_buffer(self._socket, _SO_SNDBUFFORCE, len(data) + (1 << 16))
            self._send_buffer = len(data)
        try:
            self._socket.send(data)
        except OSError as error:
            raise TransactionError(
                f"cannot send a transaction: {reason_of(error)}", code=code_of(error.errno or 0)
            ) from error
        if requests:  # the kernel answers the last one
            self._read_answers(first + len(requests) - 1)

    def _read_answers(self, last: int) -> None:
        """Read the answers to a batch: errors of any request, and the ACK of the `last` one."""
        failure: tuple[int, int] | None = None
        acknowledged = False
        while True:
            try:
                # All answers are there: the kernel worked while `send` ran. Waiting for more could
                # be for ever.
                data = self._socket.recv(_RECEIVE, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except OSError as error:
                # More errors than the socket's buffer holds: the transaction has failed for sure.
                if error.errno == errno.ENOBUFS:
                    failure = failure or (last, errno.ENOBUFS)
                    continue
                raise
            for kind, _, number, start, _, _ in messages(data):
                if kind != NLMSG_ERROR:
                    continue
                code = error_number(data, start)
                if code:
                    # The first error is the cause; others follow from it.
                    failure = failure or (number, code)
                elif number == last:
                    acknowledged = True
        if failure is not None:
            number, code = failure
            name = code_of(code)
            raise TransactionError(
                f"the kernel refused a transaction: {os.strerror(code)} ({name}), message {number}",
                NOT_PERMITTED_REMEDY if name == NOT_PERMITTED else "",
                name,
            )
        if not acknowledged:
            raise TransactionError("the kernel did not acknowledge a transaction")


def _raise_for(number: int, what: str) -> None:
    """Raise DataplaneError for an errno that is not 0."""
    if number:
        raise DataplaneError(f"cannot {what}: {os.strerror(number)}", code=code_of(number))
