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

_PATIENCE_S = 1.0

#: The most connections in one call: each is a socket.
MOST_PROBES = 200

_NO_ROUTE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EINVAL, errno.EACCES, errno.ENETDOWN)


def probe_endpoints(endpoints: Iterable[Destination]) -> Mapping[Destination, ProbeAnswer]:
    """
    Connect to TCP endpoints, to the first MOST_PROBES of them, and return what came of it.

    Each connection is reset at once when it is there. Takes a second at most.
    """
    answers: dict[Destination, ProbeAnswer] = {}
    started_s = monotonic_s()
    with selectors.DefaultSelector() as selector:
        for end in sorted(set(endpoints))[:MOST_PROBES]:
            opened = _begin(end)
            if isinstance(opened, int):
                answers[end] = _answer(opened, None)
            else:
                selector.register(opened, selectors.EVENT_WRITE, end)
        while selector.get_map():
            left_s = started_s + _PATIENCE_S - monotonic_s()
            for key, _ in selector.select(max(0.0, left_s)) if left_s > 0 else ():
                assert isinstance(key.fileobj, socket.socket)  # noqa: S101 - registered above
                code = key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                answers[key.data] = _answer(code, monotonic_s() - started_s)
                selector.unregister(key.fileobj)
                key.fileobj.close()
            if left_s <= 0:
                for key in list(selector.get_map().values()):
                    answers[key.data] = ProbeAnswer(ProbeResult.TIMEOUT)
                    selector.unregister(key.fileobj)
                    key.fileobj.close()  # type: ignore[union-attr]
    return answers


def _begin(end: Destination) -> socket.socket | int:
    """Return a socket that is connecting, or the errno with which that failed."""
    family = family_of(end[:-4])
    kind = socket.AF_INET if family is Family.IPV4 else socket.AF_INET6
    opened = None
    try:
        opened = socket.socket(kind, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        # Close by a reset: the endpoint sees no connection that stays half open.
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        code = opened.connect_ex((format_address(end[:-4]), port_of(end, family.size)))
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
