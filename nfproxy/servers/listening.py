"""Opens listening sockets, and says what to do where that fails."""

from __future__ import annotations

import errno
import resource
import socket

from nfproxy.config.addresses import split_address_port
from nfproxy.errors import ListenError, reason_of
from nfproxy.model.addresses import Family, format_address, parse_address

#: Connections the kernel holds until they are accepted; at most net.core.somaxconn.
_BACKLOG = 4096

_ADDRESS_FAMILY = {Family.IPV4: socket.AF_INET, Family.IPV6: socket.AF_INET6}

# IP_FREEBIND and IPV6_FREEBIND of linux/in.h and linux/in6.h; Python has no names for them.
_FREEBIND = {
    Family.IPV4: (socket.IPPROTO_IP, 15),
    Family.IPV6: (socket.IPPROTO_IPV6, 78),
}

#: What is wrong, and what to do about it, by errno.
_CAUSES = {
    errno.EADDRINUSE: (
        "another process listens there (kube-proxy, or another nfproxy?)",
        "`ss -ltnp` names it: stop it, or choose another address",
    ),
    errno.EADDRNOTAVAIL: (
        "no interface has this address",
        "choose one that `ip address` shows",
    ),
    errno.EACCES: ("not permitted", "ports below 1024 need CAP_NET_BIND_SERVICE"),
    errno.EMFILE: ("too many files are open", "raise the limit (ulimit -n)"),
    errno.ENFILE: ("the machine has too many files open", "raise fs.file-max"),
}


def listen_at(address: str) -> socket.socket:
    """
    Return a socket that listens at ``IP:port``.

    An unspecified address (0.0.0.0 or ::) stands for all addresses of both families, as in Go.
    Raises ListenError with what to do.
    """
    host, port = split_address_port(address) or (address, "")
    packed = parse_address(host)
    try:
        if any(packed):
            return listen(Family.IPV4 if len(packed) == 4 else Family.IPV6, packed, int(port))
        return _listen_at_both(int(port))
    except OSError as error:
        raise not_at(address, error) from error


def listen_in_family(family: Family, address: bytes | None, port: int) -> socket.socket:
    """
    Return a socket that listens at an address, or at all of one family (None). Raises OSError.

    The kernel may still be checking the address for duplicates (IPv6 duplicate address detection):
    an address that was just added to an interface cannot be bound to otherwise.
    """
    if address is None:
        return listen(family, bytes(family.size), port)
    return listen(family, address, port, early=True)


def bind_datagrams(family: Family, address: bytes, port: int) -> socket.socket:
    """Return a UDP socket at an address, which need not be on an interface yet. Raises OSError."""
    opened = socket.socket(_ADDRESS_FAMILY[family], socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        if family is Family.IPV6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.setsockopt(*_FREEBIND[family], 1)
        opened.bind((format_address(address), port))
    except OSError:
        opened.close()
        raise
    return opened


def share_of_files(share: int) -> int:
    """
    Return how many files are a share (one of so many) of those that this process may open.

    Services decide how many sockets listen for them, so they must leave files for everything else.
    """
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return files // share


def why_not(error: OSError) -> str:
    """Return why a socket cannot listen, and what to do about it where that is known."""
    return str(ListenError(*_cause(error)))


def not_at(address: str, error: OSError) -> ListenError:
    """Return the error of sockets that cannot listen at ``IP:port``."""
    what, remedy = _cause(error)
    return ListenError(f"cannot listen on {address}: {what}", remedy)


def _cause(error: OSError) -> tuple[str, str]:
    return _CAUSES.get(error.errno or 0, (reason_of(error), ""))


def _listen_at_both(port: int) -> socket.socket:
    try:
        return listen(Family.IPV6, bytes(16), port, both=True)
    except OSError as error:
        if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            raise
        return listen(Family.IPV4, bytes(4), port)  # a kernel without IPv6


def listen(
    family: Family,
    address: bytes,
    port: int,
    *,
    both: bool = False,
    early: bool = False,
    is_shared: bool = False,
) -> socket.socket:
    """
    Return a socket that listens at an address of a family, and `both` at IPv4's, too.

    It may be `early`, before an interface has the address. With `is_shared` other sockets of this
    user that say so, too, may have the same place. Raises OSError.
    """
    opened = socket.socket(_ADDRESS_FAMILY[family], socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        # A restart must not wait for the old process's connections in TIME_WAIT.
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, is_shared)
        if family is Family.IPV6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not both)
        if early:
            opened.setsockopt(*_FREEBIND[family], 1)
        opened.bind((format_address(address), port))
        opened.listen(_BACKLOG)
    except OSError:
        opened.close()
        raise
    return opened
