"""
nfacct: the named counters of the kernel, by netlink.
"""

from __future__ import annotations

import errno
import os
import socket
import struct

from nfproxy.errors import DataplaneError
from nfproxy.netlink.messages import (
    HEADER,
    NLM_F_ACK,
    NLM_F_DUMP,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    attributes,
    messages,
    string,
)
from nfproxy.tools.takeover.names import NFACCT

_NETLINK_NETFILTER = 12
_GET, _DELETE = 0x701, 0x703  # NFNL_SUBSYS_ACCT << 8 | NFNL_MSG_ACCT_…
_NAME = 1  # NFACCT_NAME
_RECEIVE = 1 << 16


def kube_proxy_counters() -> list[str]:
    """Return the counters that kube-proxy made; none where the kernel has no such thing."""
    found: list[str] = []
    with _open() as sock:
        sock.send(request(_GET, NLM_F_DUMP))
        while True:
            data = sock.recv(_RECEIVE)
            for kind, _, _, start, end, _ in messages(data):
                if kind == NLMSG_DONE:
                    return found
                if kind == NLMSG_ERROR:
                    code = -struct.unpack_from("=i", data, start)[0]
                    if code in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOENT):
                        return []
                    raise DataplaneError(f"cannot list nfacct counters: {os.strerror(code)}")
                name = counter_name(data[start:end])
                if name in NFACCT:
                    found.append(name)


def delete_counter(name: str) -> None:
    """Delete a counter that no rule uses; fine if it is gone. Raises DataplaneError."""
    with _open() as sock:
        sock.send(request(_DELETE, NLM_F_ACK, string(_NAME, name)))
        data = sock.recv(_RECEIVE)
    code = -struct.unpack_from("=i", data, HEADER.size)[0]
    if code not in (0, errno.ENOENT):
        raise DataplaneError(f"nfacct counter {name}: {os.strerror(code)}")


def request(kind: int, flags: int, payload: bytes = b"") -> bytes:
    """Return a message to the kernel's counters."""
    size = HEADER.size + 4 + len(payload)
    return HEADER.pack(size, kind, flags | NLM_F_REQUEST, 1, 0) + b"\0\0\0\0" + payload


def counter_name(data: bytes) -> str:
    """Return the name in a message about a counter, without its netlink header."""
    for kind, start, stop in attributes(data, 4, len(data)):
        if kind == _NAME:
            return data[start:stop].rstrip(b"\0").decode("utf-8", "replace")
    return ""


def _open() -> socket.socket:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
