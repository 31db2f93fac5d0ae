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
from collections.abc import Iterable, Iterator

import msgspec

from nfproxy.model.service import Protocol
from nfproxy.nft.schema import SCHEMAS, Verdict, goto, halves, number64_bytes

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
    "reject-unknown-port",
    "drop-no-local",
    "reject-loopback",
    "nat-postrouting",
    "masquerade-hairpin",
    "nat-input",
    "record-affinity",
)
#: The answer of a frontend without endpoints, and of one whose policy Local leaves it none here.
REJECT = goto("reject-connection")
NO_LOCAL = goto("drop-no-local")


class Policy(enum.StrEnum):
    """Which clients get which endpoints, and source NAT; see ``rulesets/shape.nft.j2``."""

    CLUSTER = "cluster"
    EXTERNAL = "external"
    LOCAL = "local"


class Shape(msgspec.Struct, frozen=True, order=True):
    """
    What frontends that share a balancing chain have in common.

    `cluster` is the number of endpoints to choose from. With policy LOCAL it is that for pods and
    the node itself, and `local` is the number for all other clients (0: they are dropped).
    A `routed` shape, which has policy LOCAL and no local endpoints, leaves other clients to the
    node's routes.

    `list` is the number of the list that a service port's frontends share, 0 where each has slots
    of its own. `cluster` and `local` then are sizes (`list_size`), and other chains draw.
    """

    policy: Policy
    protocol: Protocol
    cluster: int = 0
    local: int = 0
    node_port: bool = False
    routed: bool = False
    list: int = 0

    @property
    def draws(self) -> tuple[Draw, ...]:
        """The chains that draw from the shared list."""
        if not self.list:
            return ()
        sizes = ((False, self.cluster), (True, self.local))
        return tuple(Draw(self.list, self.protocol, local, size) for local, size in sizes if size)

    @property
    def name(self) -> str:
        """The chain's name, e.g. ``local-tcp-2-of-5``."""
        return _shape_name(self)


@functools.lru_cache(maxsize=4096)
def _shape_name(shape: Shape) -> str:
    parts = [f"list-{shape.list:016x}"] if shape.list else []
    if shape.routed:
        parts.append("routed")
    if shape.node_port:
        parts.append("node-port")
    parts.append(shape.policy.value)
    parts.append(shape.protocol.word)
    if shape.policy is Policy.LOCAL:
        parts.append(f"{shape.local}-of")
    parts.append(str(shape.cluster))
    return "-".join(parts)


def neighbours(shape: Shape) -> Iterator[Shape]:
    """
    Yield the shapes that a frontend has after a usual change: one endpoint more or less, two more.

    With policy Local the endpoint may be on this node or on another one. A shape with a shared list
    has none: its chains serve several numbers.
    """
    for more in (1, -1, 2) if not shape.list else ():
        for more_local in {0, more} if shape.policy is Policy.LOCAL else (0,):
            cluster, local = shape.cluster + more, shape.local + more_local
            if cluster > 0 and 0 <= local <= cluster:
                routed = shape.routed and not local
                yield msgspec.structs.replace(shape, cluster=cluster, local=local, routed=routed)


_SHAPE = re.compile(
    r"(?:list-(?P<list>[0-9a-f]{16})-)?(?P<routed>routed-)?(?P<node_port>node-port-)?"
    r"(?P<policy>cluster|external|local)-(?P<protocol>tcp|udp|sctp)-"
    r"(?:(?P<local>\d{1,5})-of-)?(?P<cluster>\d{1,7})",
    re.ASCII,
)


def parse_shape(name: str) -> Shape | None:
    """Return the shape that a chain's name stands for; None if it is no shape's name."""
    match = _SHAPE.fullmatch(name)
    if match is None:
        return None
    shape = Shape(
        policy=Policy(match["policy"]),
        protocol=Protocol[match["protocol"].upper()],
        cluster=int(match["cluster"]),
        local=int(match["local"] or 0),
        node_port=bool(match["node_port"]),
        routed=bool(match["routed"]),
        list=int(match["list"] or "0", 16),
    )
    return shape if shape.name == name else None


@functools.lru_cache(maxsize=4096)
def goto_shape(shape: Shape) -> Verdict:
    """Return the verdict that leads to a shape's balancing chain."""
    return goto(shape.name)


@functools.lru_cache(maxsize=4096)
def shape_of(verdict: Verdict | None) -> Shape | None:
    """Return the shape of the balancing chain that a verdict leads to; None for any other."""
    return parse_shape(verdict.chain) if verdict is not None and verdict.chain else None


def list_number(service_port: str) -> int:
    """Return the number of a service port's list: a hash, so that a restart does not change it."""
    return _hash64("list", service_port) or 1


def list_size(count: int) -> int:
    """
    Return the size of a list of `count` endpoints: the least number 2^k or 3·2^k that is as large.

    A chain draws from a list by its size. So few changes of the count need another chain.
    """
    size = 1 << max(0, count - 1).bit_length()
    return size * 3 // 4 if 4 * count <= 3 * size and size > 2 else size


def smaller_size(size: int) -> int:
    """Return the next smaller size of a list; 1 where there is none."""
    return max(1, size * 2 // 3 if size % 3 == 0 else size * 3 // 4)


class Draw(msgspec.Struct, frozen=True):
    """
    A chain that draws an endpoint from a list, of all its endpoints or of the local ones.

    It serves every count up to `size`: see ``rulesets/draw.nft.j2``.
    """

    list: int
    protocol: Protocol
    local: bool
    size: int

    @property
    def name(self) -> str:
        """The chain's name, e.g. ``draw-0123456789abcdef-tcp-all-12``."""
        return _draw_name(self)


@functools.lru_cache(maxsize=1024)
def _draw_name(draw: Draw) -> str:
    which = "local" if draw.local else "all"
    return f"draw-{draw.list:016x}-{draw.protocol.word}-{which}-{draw.size}"


_DRAW = re.compile(r"draw-([0-9a-f]{16})-(tcp|udp|sctp)-(local|all)-([1-9][0-9]{0,6})", re.ASCII)


def parse_draw(name: str) -> Draw | None:
    """Return the drawing chain that a name stands for; None if it is no such name."""
    match = _DRAW.fullmatch(name)
    if match is None:
        return None
    return Draw(int(match[1], 16), Protocol[match[2].upper()], match[3] == "local", int(match[4]))


class Guard(msgspec.Struct, frozen=True):
    """
    A chain that lets only some sources pass to a Service's load-balancer IPs.

    `number` is a 64-bit hash that names the Service, `lengths` are the lengths of its prefixes.
    The prefixes themselves are elements of set ``source-ranges``.
    """

    number: int
    lengths: tuple[int, ...]

    @classmethod
    def of(cls, service: str, lengths: Iterable[int]) -> Guard:
        """Return the guard of a Service with prefixes of these lengths."""
        return cls(_hash64(service), tuple(sorted(set(lengths))))

    @property
    def packed(self) -> bytes:
        """The number as two fields of a key."""
        return number64_bytes(self.number)

    @property
    def name(self) -> str:
        """The chain's name: ``guard-HASH-LENGTHS``, with a bit for each length."""
        return f"guard-{self.number:016x}-{sum(1 << length for length in self.lengths):x}"


_GUARD = re.compile(r"guard-([0-9a-f]{16})-([0-9a-f]{1,33})")


def parse_guard(name: str) -> Guard | None:
    """Return the guard that a chain's name stands for; None if it is no guard's name."""
    match = _GUARD.fullmatch(name)
    if match is None:
        return None
    bits = int(match[2], 16)
    lengths = tuple(length for length in range(129) if bits >> length & 1)
    guard = Guard(int(match[1], 16), lengths)
    return guard if lengths and guard.name == name else None


def is_guard(verdict: Verdict) -> bool:
    """Return whether a verdict leads to a guard."""
    return verdict.chain.startswith("guard-")


def parse_chain(name: str) -> Shape | Draw | Guard | None:
    """Return the chain whose rules follow from its name; None if they do not."""
    return parse_shape(name) or parse_draw(name) or parse_guard(name)


def _hash64(*parts: str) -> int:
    return int.from_bytes(hashlib.sha256("/".join(parts).encode()).digest()[:8], "big")


class AffinityList(msgspec.Struct, frozen=True, order=True):
    """
    The endpoints that remembered clients of a service port may have.

    `which` is ``cluster`` or ``local``. Map `name` has the clients, in each family.
    """

    service_port: str
    which: str

    @property
    def name(self) -> str:
        """The map's name: with a hash, so that a restart does not change it and clients stay."""
        return f"clients-{_hash64(self.service_port):016x}-{self.which}"

    @property
    def halves(self) -> tuple[int, int]:
        """
        The list's 64-bit number in two parts: nft has no larger numbers.

        With 10,000 lists the chance that two have one number is 1 in 10^11.
        """
        return halves(_hash64(self.service_port, self.which))

    @property
    def number(self) -> bytes:
        """The number as two fields of an element's key."""
        return number64_bytes(_hash64(self.service_port, self.which))


class FindChain(msgspec.Struct, frozen=True):
    """
    Leads the remembered clients of a service port to their endpoints, and others back.

    Its name is ``affinity-HASH-POLICY[-internal]``. `policy` is that of the frontend's shape.
    `internal_local` is for a cluster IP with internalTrafficPolicy Local.
    """

    service_port: str
    protocol: Protocol
    policy: Policy
    internal_local: bool = False

    @property
    def name(self) -> str:
        """The chain's name."""
        internal = "-internal" if self.internal_local else ""
        return f"affinity-{_hash64(self.service_port):016x}-{self.policy}{internal}"

    @property
    def cluster(self) -> AffinityList | None:
        """The list for pods and the node, and without policy LOCAL for all clients."""
        return None if self.internal_local else AffinityList(self.service_port, "cluster")

    @property
    def local(self) -> AffinityList | None:
        """The list for all other clients; None where they have the first one, too."""
        if self.policy is Policy.LOCAL or self.internal_local:
            return AffinityList(self.service_port, "local")
        return None

    @property
    def lists(self) -> tuple[AffinityList, ...]:
        """The lists that it searches."""
        return tuple(one for one in (self.cluster, self.local) if one)


class RecordChain(msgspec.Struct, frozen=True):
    """
    Remembers a service port's client on each of its lists. Its name is ``record-HASH``.

    Of two lists the first has part of the endpoints only, so that is checked.
    """

    service_port: str
    protocol: Protocol
    lists: tuple[AffinityList, ...]
    timeout_s: int

    @property
    def name(self) -> str:
        """The chain's name."""
        return f"record-{_hash64(self.service_port):016x}"


Chain = Shape | Draw | Guard | FindChain | RecordChain

_AFFINITY_CHAIN = re.compile(
    r"(?:affinity|record)-(?P<port>[0-9a-f]{16})"
    r"(?:-(?:cluster|external|local)(?:-internal)?|-both)?"
)
_CLIENTS_MAP = re.compile(r"clients-[0-9a-f]{16}-(?:cluster|local)")


def is_clients_map(name: str) -> bool:
    """Return whether nfproxy gives a map of remembered clients such a name."""
    return _CLIENTS_MAP.fullmatch(name) is not None


def is_our_set(name: str) -> bool:
    """Return whether nfproxy gives a set or map such a name."""
    return name in SCHEMAS or is_clients_map(name)


def clients_maps(name: str, chain: Chain | None) -> tuple[str, ...]:
    """Return the maps of clients that a chain may use; without it (None), by its name."""
    if isinstance(chain, FindChain | RecordChain):
        return tuple(one.name for one in chain.lists)
    found = _AFFINITY_CHAIN.fullmatch(name) if chain is None else None
    port = found["port"] if found else ""
    return (f"clients-{port}-local", f"clients-{port}-cluster") if port else ()


def is_ours(name: str) -> bool:
    """Return whether nfproxy gives a chain such a name, or did (``-sticky``, ``-both``)."""
    return (
        name in FIXED_CHAINS
        or parse_chain(name.removesuffix("-sticky")) is not None
        or _AFFINITY_CHAIN.fullmatch(name) is not None
    )
