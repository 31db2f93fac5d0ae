"""Connections from this node to endpoints, to see who answers: all at once, for a second."""

from __future__ import annotations

import errno
import selectors
import socket
from collections.abc import Iterable, Mapping

from nfproxy.clock import monotonic_s
from nfproxy.insight.nodefacts import ProbeAnswer, ProbeResult
from nfproxy.model.addresses import Family, family_of, format_address
from nfproxy.nft.schema import port_of
from nfproxy.plan.endpoints import Destination

_PATIENCE_S, _UDP_PATIENCE_S = 1.0, 0.5

#: The most connections in one call: each is a socket.
MOST_PROBES = 200

_NO_ROUTE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EINVAL, errno.EACCES, errno.ENETDOWN)


def probe_endpoints(
    endpoints: Iterable[Destination], *, is_udp: bool = False
) -> Mapping[Destination, ProbeAnswer]:
    """
    Connect to TCP endpoints, to the first MOST_PROBES of them, and return what came of it.

    Each connection is reset at once when it is there. A UDP endpoint gets an empty datagram; one
    that says nothing to it is left out. Takes a second at most, for UDP half of one.
    """
    patience_s = _UDP_PATIENCE_S if is_udp else _PATIENCE_S
    event = selectors.EVENT_READ if is_udp else selectors.EVENT_WRITE
    answers: dict[Destination, ProbeAnswer] = {}
    started_s = monotonic_s()
    with selectors.DefaultSelector() as selector:
        for end in sorted(set(endpoints))[:MOST_PROBES]:
            opened = _begin(end, is_udp=is_udp)
            if isinstance(opened, int):
                answers[end] = _answer(opened, None)
            else:
                selector.register(opened, event, end)
        while selector.get_map():
            left_s = started_s + patience_s - monotonic_s()
            for key, _ in selector.select(max(0.0, left_s)) if left_s > 0 else ():
                assert isinstance(key.fileobj, socket.socket)  # noqa: S101 - registered above
                code = key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                answers[key.data] = _answer(code, monotonic_s() - started_s)
                selector.unregister(key.fileobj)
                key.fileobj.close()
            if left_s <= 0:
                for key in list(selector.get_map().values()):
                    if not is_udp:
                        answers[key.data] = ProbeAnswer(ProbeResult.TIMEOUT)
                    selector.unregister(key.fileobj)
                    key.fileobj.close()  # type: ignore[union-attr]
    return answers


def _begin(end: Destination, *, is_udp: bool) -> socket.socket | int:
    """Return a socket that is connecting, or the errno with which that failed."""
    family = family_of(end[:-4])
    word = socket.AF_INET if family is Family.IPV4 else socket.AF_INET6
    kind = socket.SOCK_DGRAM if is_udp else socket.SOCK_STREAM
    opened = None
    try:
        opened = socket.socket(word, kind | socket.SOCK_NONBLOCK)
        # Close by a reset: the endpoint sees no connection that stays half open.
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        code = opened.connect_ex((format_address(end[:-4]), port_of(end, family.size)))
        if is_udp and not code:
            opened.send(b"")
    except OSError as error:
        code = error.errno or errno.EIO
    if opened is not None and code in (0, errno.EINPROGRESS):
        return opened
    if opened is not None:
        opened.close()
    return code


def _answer(code: int, seconds: float | None) -> ProbeAnswer:
    if code == 0:
        return ProbeAnswer(ProbeResult.OK, seconds)
    if code in (errno.ECONNREFUSED, errno.ECONNRESET):
        return ProbeAnswer(ProbeResult.REFUSED, seconds)
    return ProbeAnswer(ProbeResult.NO_ROUTE if code in _NO_ROUTE else ProbeResult.TIMEOUT)
