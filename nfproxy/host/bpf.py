"""Classic BPF programs of sockets, as in linux/bpf_common.h."""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Iterable

LOAD_BYTE, LOAD_WORD, TO_X, SHIFT_RIGHT = 0x30, 0x20, 0x07, 0x74
JUMP_IF_EQUAL, JUMP_IF_X, RETURN = 0x15, 0x1D, 0x06

#: A code, how many instructions to jump over if it is true, and if not, and an operand.
Instruction = tuple[int, int, int, int]


def attach(sock: socket.socket, option: int, instructions: Iterable[Instruction]) -> None:
    """Attach a program to a socket by an option of SOL_SOCKET. Raises OSError."""
    program = [struct.pack("=HBBI", *instruction) for instruction in instructions]
    buffer = ctypes.create_string_buffer(b"".join(program))
    header = struct.pack("@HP", len(program), ctypes.addressof(buffer))
    sock.setsockopt(socket.SOL_SOCKET, option, header)
