"""
What the kernel reports of traced packets: the messages of ``meta nftrace set 1``.

Each message is about one rule, or the end of a chain, that a packet met. Source:
``linux/netfilter/nf_tables.h`` (NFTA_TRACE_…), ``net/netfilter/nf_tables_trace.c``.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from nfproxy.netlink.messages import GENERIC_SIZE, family_of, number, text, values
from nfproxy.netlink.nftables import SUBSYSTEM

TRACE_GROUP = 9  # NFNLGRP_NFTRACE
_TRACE = SUBSYSTEM << 8 | 17  # NFT_MSG_TRACE

_TABLE, _CHAIN, _HANDLE, _TYPE, _VERDICT, _ID = 1, 2, 3, 4, 5, 6  # NFTA_TRACE_…
_NETWORK, _TRANSPORT, _IN, _OUT, _POLICY = 8, 9, 10, 12, 16
_CODE, _VERDICT_CHAIN = 1, 2  # NFTA_VERDICT_…


class TraceKind(enum.IntEnum):
    """What a message is about: NFT_TRACETYPE_…."""

    POLICY = 1  # a base chain's end
    RETURN = 2  # the end of a chain that was jumped to
    RULE = 3


class TraceVerdict(enum.IntEnum):
    """What came of it: NF_… and NFT_…, signed."""

    DROP = 0
    ACCEPT = 1
    STOLEN = 2
    QUEUE = 3
    REPEAT = 4
    STOP = 5
    CONTINUE = -1
    BREAK = -2
    JUMP = -3
    GOTO = -4
    RETURN = -5


class TraceEvent(NamedTuple):
    """
    One message.

    `id` is the packet's while it stays one packet in the kernel. `handle` is the rule's, 0 at the
    end of a chain. `network` and `transport` are the first bytes of its headers, b"" but in the
    first message from each base chain. Interfaces are numbers, 0 for none. `verdict` is a number of
    TraceVerdict, or another one; `target` the chain of a jump.
    """

    id: int
    family: int
    table: str
    chain: str
    kind: int
    handle: int
    verdict: int
    target: str = ""
    network: bytes = b""
    transport: bytes = b""
    interface_in: int = 0
    interface_out: int = 0


def read_event(kind: int, data: bytes, start: int, end: int) -> TraceEvent | None:
    """
    Read the payload of a message of type `kind`, None where it is not about a traced packet.

    Raises DataplaneError where it is cut short.
    """
    if kind != _TRACE:
        return None
    found = values(data, start + GENERIC_SIZE, end)
    verdict = values(found.get(_VERDICT, b""))
    code = verdict.get(_CODE) or found.get(_POLICY) or b"\xff\xff\xff\xff"
    return TraceEvent(
        id=number(found.get(_ID, b"")),
        family=family_of(data, start),
        table=text(found.get(_TABLE, b"")),
        chain=text(found.get(_CHAIN, b"")),
        kind=number(found.get(_TYPE, b"")),
        handle=number(found.get(_HANDLE, b"")),
        verdict=int.from_bytes(code, "big", signed=True),
        target=text(verdict.get(_VERDICT_CHAIN, b"")),
        network=found.get(_NETWORK, b""),
        transport=found.get(_TRANSPORT, b""),
        interface_in=number(found.get(_IN, b"")),
        interface_out=number(found.get(_OUT, b"")),
    )
