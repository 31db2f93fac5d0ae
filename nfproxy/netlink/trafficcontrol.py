"""
Messages about queues and filters of interfaces (tc), as far as they may drop packets.

Source: ``linux/rtnetlink.h``, ``pkt_sched.h``, ``pkt_cls.h``, tc(8).
"""

from __future__ import annotations

import struct
import sys
from typing import NamedTuple

from nfproxy.netlink.messages import attributes, malformed, text, values

GET_QUEUE, GET_FILTER = 38, 46  # RTM_GETQDISC, RTM_GETTFILTER

_HEAD = struct.Struct("=BxxxiIII")  # tcmsg: family, interface, handle, parent, info
_KIND, _OPTIONS = 1, 2  # TCA_…
#: Where filters of packets that come in, and that leave, hang: TC_H_CLSACT with TC_H_MIN_….
_CLSACT = {"ingress": 0xFFFFFFF2, "egress": 0xFFFFFFF3}
_INGRESS = {"ingress": 0xFFFF0000}

#: The attribute of each kind of filter that has its actions: TCA_…_ACT.
_ACTIONS = {"bpf": 1, "matchall": 2, "flower": 3, "basic": 3, "fw": 4, "route": 6, "u32": 7}
_ACTION_KIND, _ACTION_OPTIONS, _PARAMETERS = 1, 2, 2  # TCA_ACT_…, TCA_…_PARMS
_VERDICT_AT = slice(8, 12)  # of struct tc_gen
_TAKING = (2, 4, 5)  # TC_ACT_SHOT, TC_ACT_STOLEN, TC_ACT_QUEUED


class QueueRow(NamedTuple):
    """A queue (qdisc) of an interface, by its index."""

    interface: int
    kind: str

    @property
    def filter_places(self) -> dict[str, int]:
        """Where it has filters that see every packet, by direction."""
        return {"clsact": _CLSACT, "ingress": _INGRESS}.get(self.kind, {})


class FilterRow(NamedTuple):
    """A filter; `takes_packets` says that an action drops, redirects or polices what it matches."""

    kind: str
    takes_packets: bool


def question(interface: int = 0, parent: int = 0) -> bytes:
    """Return the payload that asks for all queues, or for the filters of a place."""
    return _HEAD.pack(0, interface, 0, parent, 0)


def read_queue(data: bytes) -> QueueRow:
    """Read a listed queue. Raises DataplaneError."""
    if len(data) < _HEAD.size:
        raise malformed("queue")
    return QueueRow(_HEAD.unpack_from(data)[1], text(values(data, _HEAD.size).get(_KIND, b"")))


def read_filter(data: bytes) -> FilterRow:
    """Read a listed filter. Raises DataplaneError."""
    if len(data) < _HEAD.size:
        raise malformed("filter")
    found = values(data, _HEAD.size)
    kind = text(found.get(_KIND, b""))
    options = values(found.get(_OPTIONS, b""))
    actions = options.get(_ACTIONS.get(kind, 0), b"")
    places = attributes(actions, 0, len(actions))
    return FilterRow(kind, any(_takes(actions[start:end]) for _, start, end in places))


def _takes(action: bytes) -> bool:
    found = values(action)
    if text(found.get(_ACTION_KIND, b"")) == "police":
        return True
    parameters = values(found.get(_ACTION_OPTIONS, b"")).get(_PARAMETERS, b"")
    return int.from_bytes(parameters[_VERDICT_AT], sys.byteorder) in _TAKING
