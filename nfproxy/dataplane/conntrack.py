"""
Stale UDP flows taken out of conntrack, so that their next packet finds an endpoint.

Calls block, for the most part in the kernel: the interpreter's lock is given up for each buffer
of a listing, that is after some 150 entries.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import closing, suppress

import msgspec

from nfproxy.dataplane import ctnetlink
from nfproxy.errors import DataplaneError
from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.netlink.messages import (
    NETLINK_CAP_ACK,
    NETLINK_NETFILTER,
    SOL_NETLINK,
    error_number,
    messages,
)
from nfproxy.plan.flows import Flows, Judge, Query

_RECEIVE = 1 << 16  # the kernel fills at most 32 KB at a time
_TRIES = 5

#: So many frontends are asked for one by one: the kernel looks through all entries each time (45 ms
#: for 200,000). For more, all UDP entries are listed once (0.9 s for as many, reading included).
_FEW = 8

#: Deletions in one system call. Each that fails has an answer; so many fit the receive buffer.
_BATCH = 256

_EVERYTHING = (Query(),)

#: Errors that say nothing against trying again.
_AGAIN = (errno.EINTR, errno.EAGAIN, errno.ENOBUFS)

#: A message of a listing: buffer, where it starts and ends without its header.
Entry = tuple[bytes, int, int]


class Report(msgspec.Struct, frozen=True):
    """What one cleaning did. `examined` counts the entries that the kernel handed out."""

    deleted: dict[Family, int]
    examined: int
    seconds: dict[Family, float]


class ConntrackCleaner:
    """
    Deletes stale UDP entries in the network namespace it is made in.

    Used by one thread at a time. Keeps nothing between calls: whoever got a DataplaneError
    asks again for the same.
    """

    def __init__(self) -> None:
        """Open the sockets. Raises DataplaneError where the kernel has no nfnetlink."""
        self._listing = _open()
        self._deleting = _open()
        self._sequence = 0

    def close(self) -> None:
        """Close. Idempotent."""
        self._listing.close()
        self._deleting.close()

    def clean(self, flows: Flows, local: Mapping[Family, Collection[bytes]]) -> Report:
        """
        Delete the entries to these frontends that lead to none of the endpoints they may lead to.

        `local` are the node's own addresses, at which node ports are reached. An entry that goes
        by itself meanwhile, or is made anew, is left alone. Raises DataplaneError; some of the
        stale entries may be gone then.
        """
        deleted = dict.fromkeys(FAMILIES, 0)
        seconds = dict.fromkeys(FAMILIES, 0.0)
        examined = 0
        for family in FAMILIES:
            started = time.monotonic()
            judge = Judge(flows, family, local.get(family, ()))
            for query in _worth_asking(family, judge.queries):
                seen, gone = self._clean(family, query, judge)
                examined += seen
                deleted[family] += gone
            seconds[family] = time.monotonic() - started
        return Report(deleted, examined, seconds)

    def _clean(self, family: Family, query: Query, judge: Judge) -> tuple[int, int]:
        """List what a query asks for and delete what is stale of it, while the listing goes on."""
        seen = gone = 0
        stale: list[bytes] = []
        with closing(self._entries(family, query)) as entries:
            for data, start, end in entries:
                seen += 1
                flow = ctnetlink.udp_flow(data, start, end, family)
                if flow is not None and judge.is_stale(*flow):
                    stale.append(ctnetlink.entry_key(data, start, end))
                    if len(stale) == _BATCH:
                        gone += self._delete(family, stale)
                        stale = []
        return seen, gone + self._delete(family, stale)

    def _entries(self, family: Family, query: Query) -> Generator[Entry, None, None]:
        """Yield what a listing gives; entries may come twice if it was interrupted."""
        for _ in range(_TRIES):
            code = yield from self._list(ctnetlink.list_request(family, *query, self._number()))
            if code not in _AGAIN:
                break
        if code:
            raise DataplaneError(_refused("list", code))

    def _list(self, request: bytes) -> Generator[Entry, None, int]:
        """
        Yield the entries that a request is answered with; return the error number it ends with.

        Reads the answer to its end even if left before: the kernel refuses one listing on a socket
        while there is another.
        """
        data = b""
        code: int | None = None
        try:
            self._listing.send(request)
            while code is None:
                data = self._listing.recv(_RECEIVE)
                for kind, _, _, start, end, _ in messages(data):
                    if ctnetlink.is_entry(kind):
                        yield data, start, end
                    else:
                        code = error_number(data, start)
        except OSError as error:
            code = error.errno or errno.EIO
        finally:
            while code is None and all(ctnetlink.is_entry(kind) for kind, *_ in messages(data)):
                data = self._listing.recv(_RECEIVE)
        return code

    def _delete(self, family: Family, keys: Sequence[bytes]) -> int:
        """Delete entries by their keys; return how many there were still."""
        if not keys:
            return 0
        code = 0
        for _ in range(_TRIES):
            try:
                self._deleting.send(ctnetlink.delete_requests(keys, family, self._number()))
                failures = self._failures()
            except OSError as error:
                code = error.errno or errno.EIO
            else:
                code = next((c for c in failures if c != errno.ENOENT), 0)
                if not code:
                    return len(keys) - len(failures)
            if code not in _AGAIN:
                break
        raise DataplaneError(_refused("delete", code))

    def _failures(self) -> list[int]:
        """Return the error numbers of the deletions just sent; the kernel has answered them all."""
        codes: list[int] = []
        with suppress(BlockingIOError):
            while True:
                data = self._deleting.recv(_RECEIVE, socket.MSG_DONTWAIT)
                codes += [error_number(data, start) for _, _, _, start, _, _ in messages(data)]
        return [code for code in codes if code]

    def _number(self) -> int:
        self._sequence = (self._sequence + 1) & 0x7FFF_FFFF
        return self._sequence


def load_conntrack() -> None:
    """
    Have the kernel load the modules that track connections, where they are modules.

    Asking anything about connections does that, and takes no right to load modules. Returns when
    it has been tried; raises DataplaneError where the kernel has no nfnetlink.
    """
    with closing(_open()) as asked:
        asked.send(ctnetlink.stats_request(1))
        asked.recv(_RECEIVE)


def _worth_asking(family: Family, queries: Collection[Query]) -> Collection[Query]:
    """
    Return what to ask the kernel for, so that all that was meant is among the answers.

    Of IPv6 only ports: asked for an address, the kernel gives the entries of all others (it takes
    the result of ipv6_addr_cmp for the opposite; Linux 5.8 to 6.18 at least).
    """
    if family is Family.IPV6:
        queries = {Query(port=query.port) for query in queries}
    return queries if len(queries) <= _FEW else _EVERYTHING


def _refused(what: str, code: int) -> str:
    text = f"cannot {what} the kernel's connections: {os.strerror(code)}"
    if code == errno.EPERM:
        return f"{text}; nfproxy needs the capability NET_ADMIN"
    if code in (errno.EINVAL, errno.EOPNOTSUPP):
        return f"{text}; is the kernel module nf_conntrack_netlink there? Try modprobe"
    return text


def _open() -> socket.socket:
    try:
        opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        opened.bind((0, 0))
        opened.setsockopt(SOL_NETLINK, NETLINK_CAP_ACK, 1)  # errors without the request
    except OSError as error:
        raise DataplaneError(f"cannot open a netfilter netlink socket: {error}") from error
    return opened
