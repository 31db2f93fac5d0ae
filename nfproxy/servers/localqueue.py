"""Two sockets listen at one place, and one of them gets this machine's own connections."""

from __future__ import annotations

import socket

from nfproxy.host import bpf
from nfproxy.model.addresses import Family, parse_address
from nfproxy.servers.listening import listen, listen_at, not_at

_SO_ATTACH_REUSEPORT_CBPF = 51  # of asm-generic/socket.h; Python has no name for it
_IP_HEADER = 0xFFF00000  # SKF_NET_OFF: an offset from there is one in the IP header
_REMOTE, _LOCAL = 0, 1  # the sockets, in the order in which they began to listen


def listen_apart(address: str) -> list[socket.socket]:
    """
    Return sockets that listen at ``IP:port``; the last is for this machine's own connections.

    The kernel queues connections until they are accepted. Where nfproxy gets little processor time,
    those of a pod that connects all the time fill the queue, and a probe of the kubelet would wait
    behind a thousand of them. Its connections come from the address that they go to.
    """
    # Sockets that share a port also share it with other processes of the same user, such as a
    # second nfproxy. This one does not, and so shows whether another process listens there.
    with listen_at(address) as alone:
        host, port = alone.getsockname()[:2]
        is_ipv6 = alone.family is socket.AF_INET6
        both = is_ipv6 and not alone.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    family, packed = Family.IPV6 if is_ipv6 else Family.IPV4, parse_address(host)
    opened: list[socket.socket] = []
    try:
        for _ in range(2):
            opened.append(listen(family, packed, port, both=both, is_shared=True))
        _lead_apart(opened[0])
    except OSError as error:
        for one in opened:
            one.close()
        raise not_at(address, error) from error
    return opened


def _lead_apart(listening: socket.socket) -> None:
    """
    Let the second socket at the place of `listening` get what comes from its own destination.

    All other connections go to the first. Raises OSError.
    """
    ipv4, ipv6 = _compare(12, 16, words=1), _compare(8, 24, words=4)
    program = (
        (bpf.LOAD_BYTE, 0, 0, _IP_HEADER),
        (bpf.SHIFT_RIGHT, 0, 0, 4),
        (bpf.JUMP_IF_EQUAL, 0, len(ipv4), 4),
        *ipv4,
        *ipv6,
    )
    bpf.attach(listening, _SO_ATTACH_REUSEPORT_CBPF, program)


def _compare(source: int, destination: int, words: int) -> list[bpf.Instruction]:
    """Return the instructions that end with `_LOCAL` where two addresses are equal."""
    made: list[bpf.Instruction] = []
    for word in range(words):
        # Over the comparisons that are left, and over the return of _LOCAL.
        to_end = 4 * (words - word - 1) + 1
        made += [
            (bpf.LOAD_WORD, 0, 0, _IP_HEADER + source + 4 * word),
            (bpf.TO_X, 0, 0, 0),
            (bpf.LOAD_WORD, 0, 0, _IP_HEADER + destination + 4 * word),
            (bpf.JUMP_IF_X, 0, to_end, 0),
        ]
    return [*made, (bpf.RETURN, 0, 0, _LOCAL), (bpf.RETURN, 0, 0, _REMOTE)]
