"""
Chains that depend on Services: one for each shape of frontend, some for session affinity.

A chain is a value: what its rules are made from. Its name follows from the value. A shape follows
from its chain's name, so that nfproxy understands the chains it finds in a table.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import re

import msgspec

from nfproxy.model.service import Protocol
from nfproxy.nft.schema import Verdict, goto, number_bytes

#: The chains of ``rulesets/table.nft.j2``.
BASE_CHAINS = (
    "nat-prerouting",
    "nat-output",
    "nat-prerouting-late",
    "nat-output-late",
    "nat-postrouting",
    "nat-input",
)
FIXED_CHAINS = (
    "nat-prerouting",
    "nat-output",
    "nat-prerouting-late",
    "nat-output-late",
    "services",
    "unused-service-addresses",
    "reject-connection",
    "reject-loopback",
    "nat-postrouting",
    "masquerade-hairpin",
    "nat-input",
    "record-affinity",
)
REJECT = goto("reject-connection")


class Policy(enum.StrEnum):
    """Which clients get which endpoints, and source NAT; see ``rulesets/shape.nft.j2``."""

    CLUSTER = "cluster"
    EXTERNAL = "external"
    LOCAL = "local"
    REJECT = "reject"


class Shape(msgspec.Struct, frozen=True, order=True):
    """
    What frontends that share a balancing chain have in common.

    `cluster` is the number of endpoints to choose from. With policy LOCAL it is that for pods and
    the node itself, and `local` is the number for all other clients (0: they are dropped).
    A `guarded` shape with policy REJECT rejects allowed sources and drops others. A `routed` one,
    which has policy LOCAL and no local endpoints, leaves other clients to the node's routes.
    """

    policy: Policy
    protocol: Protocol
    cluster: int = 0
    local: int = 0
    node_port: bool = False
    sticky: bool = False
    guarded: bool = False
    routed: bool = False

    @property
    def name(self) -> str:
        """The chain's name, e.g. ``guarded-local-tcp-2-of-5-sticky``."""
        return _shape_name(self)


@functools.lru_cache(maxsize=8192)
def _shape_name(shape: Shape) -> str:
    parts = []
    if shape.guarded:
        parts.append("guarded")
    if shape.routed:
        parts.append("routed")
    if shape.node_port:
        parts.append("node-port")
    parts.append(shape.policy.value)
    if shape.policy is not Policy.REJECT:
        parts.append(shape.protocol.word)
        if shape.policy is Policy.LOCAL:
            parts.append(f"{shape.local}-of")
        parts.append(str(shape.cluster))
        if shape.sticky:
            parts.append("sticky")
    return "-".join(parts)


_SHAPE = re.compile(
    r"(?P<guarded>guarded-)?(?P<routed>routed-)?(?P<node_port>node-port-)?"
    r"(?:(?P<reject>reject)|(?P<policy>cluster|external|local)-(?P<protocol>tcp|udp|sctp)-"
    r"(?:(?P<local>\d{1,5})-of-)?(?P<cluster>\d{1,7})(?P<sticky>-sticky)?)",
    re.ASCII,
)


def parse_shape(name: str) -> Shape | None:
    """Return the shape that a chain's name stands for; None if it is no shape's name."""
    match = _SHAPE.fullmatch(name)
    if match is None:
        return None
    policy = Policy.REJECT if match["reject"] else Policy(match["policy"])
    shape = Shape(
        policy=policy,
        protocol=Protocol.TCP if match["reject"] else Protocol[match["protocol"].upper()],
        cluster=int(match["cluster"] or 0),
        local=int(match["local"] or 0),
        node_port=bool(match["node_port"]),
        sticky=bool(match["sticky"]),
        guarded=bool(match["guarded"]),
        routed=bool(match["routed"]),
    )
    return shape if shape.name == name else None


@functools.lru_cache(maxsize=8192)
def goto_shape(shape: Shape) -> Verdict:
    """Return the verdict that leads to a shape's balancing chain."""
    return goto(shape.name)


@functools.lru_cache(maxsize=8192)
def shape_of(verdict: Verdict | None) -> Shape | None:
    """Return the shape of the balancing chain that a verdict leads to; None for any other."""
    return parse_shape(verdict.chain) if verdict is not None and verdict.chain else None


class AffinityList(msgspec.Struct, frozen=True, order=True):
    """
    The endpoints with one port number on one list of a service port.

    `high` and `low` are the halves of the list's 64-bit name: nft has no larger numbers.
    """

    high: int
    low: int
    endpoint_port: int

    @property
    def number(self) -> bytes:
        """The name as the last two fields of an ``affinity`` key."""
        return number_bytes(self.high) + number_bytes(self.low)


def _hash64(*parts: object) -> bytes:
    return hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:8]


def affinity_list(service_port: str, which: str, endpoint_port: int) -> AffinityList:
    """
    Return the list `which` (``cluster`` or ``local``) of a service port's endpoints.

    Its name is a hash, so that a restart does not change it and the entries under it stay valid.
    With 10,000 lists the chance that two have one name is 1 in 10^12.
    """
    digest = _hash64(service_port, which, endpoint_port)
    return AffinityList(
        int.from_bytes(digest[:4], "big"), int.from_bytes(digest[4:], "big"), endpoint_port
    )


class Search(enum.StrEnum):
    """In which of a service port's lists a chain looks for a client."""

    CLUSTER = "cluster"
    LOCAL = "local"
    EXTERNAL = "external"  # cluster for pods and the node, local for all other clients


class FindChain(msgspec.Struct, frozen=True):
    """Finds the endpoint of a service port's client. Its name is ``affinity-HASH-FINDING``."""

    service_port: str
    search: Search
    protocol: Protocol
    cluster: tuple[AffinityList, ...] = ()
    local: tuple[AffinityList, ...] = ()

    @property
    def name(self) -> str:
        """The chain's name."""
        return f"affinity-{_hash64(self.service_port).hex()}-{self.search}"


class RecordChain(msgspec.Struct, frozen=True):
    """
    Records a client's endpoint on each list that has the endpoint.

    Its name is ``record-HASH`` or, with two lists, ``record-HASH-both``.
    """

    lists: tuple[AffinityList, ...]
    timeout_s: int

    @property
    def name(self) -> str:
        """The chain's name."""
        first = self.lists[0]
        both = "-both" if len(self.lists) > 1 else ""
        return f"record-{first.high:08x}{first.low:08x}{both}"


Chain = Shape | FindChain | RecordChain

_AFFINITY_NAME = re.compile(
    r"affinity-[0-9a-f]{16}-(?:cluster|local|external)|record-[0-9a-f]{16}(?:-both)?"
)


def is_ours(name: str) -> bool:
    """Return whether nfproxy gives a chain such a name."""
    return (
        name in FIXED_CHAINS
        or parse_shape(name) is not None
        or _AFFINITY_NAME.fullmatch(name) is not None
    )
