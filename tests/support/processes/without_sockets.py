"""
Run a program that may not open some sockets: ``without_sockets.py WHICH COMMAND …``.

WHICH is ``all``, or what netfilter's netlink sockets are about: ``netfilter`` stands for a kernel
without nfnetlink (opening one gives EPROTONOSUPPORT), ``forbidden`` for a seccomp profile that
allows none (EPERM).
"""

import ctypes
import errno
import os
import platform
import struct
import sys

_SOCKET = {"x86_64": 41, "aarch64": 198}
_AF_NETLINK, _NETLINK_NETFILTER = 16, 12
_NUMBER, _FIRST, _THIRD = 0, 16, 32  # offsets in struct seccomp_data, of low halves
_LOAD, _JUMP_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _MODE_FILTER = 38, 22, 2

Instruction = tuple[int, int, int, int]


def program(which: str) -> list[Instruction]:
    """Return the filter: (code, jump if true, jump if false, value)."""
    number = _SOCKET[platform.machine()]
    if which == "all":
        return [
            (_LOAD, 0, 0, _NUMBER),
            (_JUMP_EQUAL, 0, 1, number),
            (_RETURN, 0, 0, _ERRNO | errno.EACCES),
            (_RETURN, 0, 0, _ALLOW),
        ]
    code = errno.EPERM if which == "forbidden" else errno.EPROTONOSUPPORT
    return [
        (_LOAD, 0, 0, _NUMBER),
        (_JUMP_EQUAL, 0, 5, number),
        (_LOAD, 0, 0, _FIRST),
        (_JUMP_EQUAL, 0, 3, _AF_NETLINK),
        (_LOAD, 0, 0, _THIRD),
        (_JUMP_EQUAL, 0, 1, _NETLINK_NETFILTER),
        (_RETURN, 0, 0, _ERRNO | code),
        (_RETURN, 0, 0, _ALLOW),
    ]


def install(instructions: list[Instruction]) -> None:
    """Filter the system calls of this process and of all it becomes."""
    libc = ctypes.CDLL(None, use_errno=True)
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *i) for i in instructions))
    header = struct.pack("@HP", len(instructions), ctypes.addressof(code))
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        _PR_SET_SECCOMP, _MODE_FILTER, header
    ):
        raise OSError(ctypes.get_errno(), "cannot filter system calls")


if __name__ == "__main__":
    install(program(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606
