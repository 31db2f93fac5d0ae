"""An XDP program that drops every packet, attached without a compiler or a library."""

from __future__ import annotations

import ctypes
import os
import socket
import struct

from nfproxy.netlink.messages import attribute
from nfproxy.netlink.rtnetlink import NETLINK_ROUTE
from nfproxy.netlink.sockets import NetlinkSocket

_BPF = {"x86_64": 321, "aarch64": 280}  # the system call's number
_LOAD, _XDP = 5, 6  # BPF_PROG_LOAD, BPF_PROG_TYPE_XDP
_INSTRUCTION = struct.Struct("=BBhi")
_DROP_ALL = _INSTRUCTION.pack(0xB7, 0, 0, 1) + _INSTRUCTION.pack(0x95, 0, 0, 0)  # r0 = 1; exit
_SET_LINK, _LINK = 19, struct.Struct("=BxHiII")  # RTM_SETLINK, ifinfomsg
_ON_LINK, _DESCRIPTOR, _FLAGS, _BY_SOFTWARE = 43, 1, 3, 2  # IFLA_XDP…, XDP_FLAGS_SKB_MODE
_NESTED = 1 << 15


def drop_all(interface: str) -> None:
    """Attach the program to an interface of this thread's network namespace. Raises OSError."""
    program = _load()
    try:
        _attach(interface, program)
    finally:
        os.close(program)


def take_off(interface: str) -> None:
    """Remove an interface's program."""
    _attach(interface, -1)


def _load() -> int:
    library = ctypes.CDLL(None, use_errno=True)
    code = ctypes.create_string_buffer(_DROP_ALL, len(_DROP_ALL))
    license_ = ctypes.create_string_buffer(b"GPL")
    places = ctypes.addressof(code), ctypes.addressof(license_)
    asked = struct.pack("=IIQQ", _XDP, len(_DROP_ALL) // _INSTRUCTION.size, *places).ljust(
        48, b"\0"
    )
    found: int = library.syscall(
        _BPF[os.uname().machine], _LOAD, ctypes.create_string_buffer(asked, 48), 48
    )
    if found < 0:
        raise OSError(ctypes.get_errno(), "bpf")
    return found


def _attach(interface: str, program: int) -> None:
    what = attribute(_DESCRIPTOR, struct.pack("=i", program))
    what += attribute(_FLAGS, struct.pack("=I", _BY_SOFTWARE))
    head = _LINK.pack(0, 0, socket.if_nametoindex(interface), 0, 0)
    question = head + attribute(_ON_LINK | _NESTED, what)
    with NetlinkSocket(NETLINK_ROUTE) as netlink:
        netlink.request(_SET_LINK, question, "an XDP program")
