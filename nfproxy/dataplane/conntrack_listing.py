"""
Lists connections: the entries of conntrack that match an original destination.

Calls block, mostly in the kernel. While a listing is read, other threads run: Python gives up the
interpreter lock for each buffer, that is after some 150 entries.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Generator

from nfproxy.errors import DataplaneError
from nfproxy.model.addresses import Family
from nfproxy.netlink import conntrack
from nfproxy.netlink.messages import error_number, messages
from nfproxy.netlink.sockets import code_of, open_socket
from nfproxy.plan.flows import Query

_RECEIVE = 1 << 16  # the kernel fills at most 32 KB at a time
TRIES = 5

#: Up to this many frontends are listed one by one, and the kernel looks through all entries each
#: time (45 ms for 200,000). For more frontends, list all entries of a protocol once (0.9 s for
#: 200,000, reading included).
_FEW = 8

#: Errors after which the same request may succeed.
TRANSIENT = (errno.EINTR, errno.EAGAIN, errno.ENOBUFS)

#: An entry in a listing: a buffer, and where the message's payload starts and ends in it.
Entry = tuple[bytes, int, int]


class ConntrackListing:
    """Lists the entries of the network namespace it is made in. One thread at a time."""

    def __init__(self) -> None:
        """Open the socket. Raises DataplaneError if the kernel has no nfnetlink."""
        self._netlink = open_socket()
        self._sequence = 0

    def close(self) -> None:
        """Close. Idempotent."""
        self._netlink.close()

    def entries(self, family: Family, query: Query) -> Generator[Entry, None, None]:
        """
        Yield the entries that a query lists; twice if the kernel interrupts the listing.

        Raises DataplaneError.
        """
        for _ in range(TRIES):
            self._sequence = (self._sequence + 1) & 0x7FFF_FFFF
            request = conntrack.list_request(family, *query, self._sequence)
            code = yield from self._list(request)
            if code not in TRANSIENT:
                break
        if code:
            raise conntrack_error("list", code)

    def _list(self, request: bytes) -> Generator[Entry, None, int]:
        """Yield the entries in the kernel's answer; return the errno that ends it, 0 for none."""
        data = b""
        code: int | None = None
        try:
            self._netlink.send(request)
            while code is None:
                data = self._netlink.recv(_RECEIVE)
                for kind, _, _, start, end, _ in messages(data):
                    if conntrack.is_entry(kind):
                        yield data, start, end
                    else:
                        code = error_number(data, start)
        except OSError as error:
            code = error.errno or errno.EIO
        finally:
            # The kernel refuses a listing on a socket while another one is under way. So if the
            # caller stops early (a DataplaneError), read the rest of the answer and drop it.
            while code is None and all(conntrack.is_entry(kind) for kind, *_ in messages(data)):
                data = self._netlink.recv(_RECEIVE)
        return code


def useful_queries(family: Family, queries: Collection[Query]) -> Collection[Query]:
    """
    Return the queries to send, whose answers include every entry that `queries` select.

    For IPv6 only by port: given an address, the kernel lists the entries of all other addresses. It
    takes the result of ipv6_addr_cmp for the opposite (Linux 5.8 to 6.18 at least).
    """
    if family is Family.IPV6:
        queries = {query._replace(address=b"") for query in queries}
    if len(queries) <= _FEW:
        return queries
    return {Query(protocol=query.protocol) for query in queries}


def conntrack_error(what: str, code: int) -> DataplaneError:
    """Return the error of a request to `what` the connections that failed with an errno."""
    remedy = ""
    if code == errno.EPERM:
        remedy = "nfproxy needs the capability NET_ADMIN"
    elif code in (errno.EINVAL, errno.EOPNOTSUPP):
        remedy = "is the kernel module nf_conntrack_netlink there? Try modprobe"
    text = f"cannot {what} the kernel's connections: {os.strerror(code)}"
    return DataplaneError(text, remedy, code_of(code))
