"""
What a node knows about the frontends and endpoints of a question: values that readers fill.

Addresses are packed. Each part is None where it was not read, and empty where it was read and
nothing is there.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from nfproxy.model.addresses import Family
from nfproxy.nft.stages import FamilyTables
from nfproxy.plan.endpoints import Destination
from nfproxy.plan.frontends import FrontendKey, SharedElement
from nfproxy.reconcile.observed import Observed

_NO_MAP: Mapping[bytes, int] = {}
_NO_SECOND: Mapping[Family, FamilyTables] = {}


class HeldState(msgspec.Struct, frozen=True):
    """
    The parts of nfproxy's tables that were asked for.

    `tables` are the families that have a table. `new_connections` are the counters of frontends,
    `comments` their comments. `remembered` counts by endpoint the clients that session affinity
    remembers. `dormant` are the families whose table the kernel does not use, `other_layout` those
    whose table is of another version and was not read. `second` are the tables of families that
    have a second one, see `nft.stages`.
    """

    tables: frozenset[Family]
    observed: Observed
    new_connections: Mapping[FrontendKey, int]
    comments: Mapping[FrontendKey, str]
    remembered: Mapping[Destination, int] = _NO_MAP
    dormant: frozenset[Family] = frozenset()
    other_layout: frozenset[Family] = frozenset()
    second: Mapping[Family, FamilyTables] = _NO_SECOND

    def lacks(self, element: SharedElement) -> bool:
        """Return whether an element that several frontends may share is missing."""
        return element not in self.observed.shared_elements


class ConnectionCounts(msgspec.Struct):
    """
    The connections of one frontend to one endpoint, by state.

    `overdue` connections are unanswered for a second or longer; `half_open` of them have the
    endpoint's answer, which the client does not confirm. `source_changed` reach the
    endpoint with another source. `clients` maps the clients of open connections to their number;
    `waiting` those of overdue ones, and `masqueraded` those whose source changed, without pods that
    reached themselves; `sources` counts what it changed to, and
    `ended` the clients of closing connections.
    """

    open: int = 0
    unanswered: int = 0
    overdue: int = 0
    half_open: int = 0
    closing: int = 0
    source_changed: int = 0
    clients: dict[bytes, int] = msgspec.field(default_factory=dict)
    waiting: dict[bytes, int] = msgspec.field(default_factory=dict)
    masqueraded: dict[bytes, int] = msgspec.field(default_factory=dict)
    sources: dict[bytes, int] = msgspec.field(default_factory=dict)
    ended: dict[bytes, int] = msgspec.field(default_factory=dict)

    @property
    def known(self) -> int:
        """All of them."""
        return self.open + self.unanswered + self.closing


class Received(NamedTuple):
    """The connections that a frontend has counted, and whether it refuses or drops all."""

    connections: int
    is_refused: bool = False


#: Connections by frontend and endpoint.
ConnectionMap = Mapping[FrontendKey, Mapping[Destination, ConnectionCounts]]


class NodeLink(msgspec.Struct, frozen=True):
    """
    A network interface. `kind` is the kernel's word, "" for hardware. `master` is 0 for none.

    `hairpin` is that of a bridge port, None for other interfaces. Without `has_carrier` it is down,
    or its other end is. `has_xdp` says that an XDP program is attached.
    """

    index: int
    name: str
    mtu: int = 0
    kind: str = ""
    master: int = 0
    hairpin: bool | None = None
    is_promiscuous: bool = False
    has_carrier: bool = True
    has_xdp: bool = False


class Route(msgspec.Struct, frozen=True):
    """
    The node's way to an address; `error` says in words why there is none, "" where there is one.

    `via` is the next hop, b"" where the address is on the link. `mtu` is the least of the route and
    the interface. `port` is the bridge port behind which the address is, None where unknown.
    `is_default` says that the default route leads there. `is_answered` is False where the next hop,
    or the address on the link, does not say its hardware address.
    """

    interface: NodeLink | None = None
    via: bytes = b""
    mtu: int = 0
    is_local: bool = False
    error: str = ""
    port: NodeLink | None = None
    ports: tuple[NodeLink, ...] = ()
    is_default: bool = False
    is_answered: bool = True


#: Why a packet is dropped whose source the node would reach by another interface.
REVERSE_PATH = "rp_filter"


class FailedWay(msgspec.Struct, frozen=True):
    """
    A packet from `source` to `destination` that the node would not forward: `error` says why.

    `came_by` is the interface by which it comes in. `clients` says in words whose packets they are.
    """

    source: bytes
    destination: bytes
    came_by: str
    error: str
    clients: str
    mark: int = 0


class ProbeResult(enum.StrEnum):
    """What a connection from the node came to."""

    OK = "ok"
    REFUSED = "refused"
    TIMEOUT = "timeout"
    NO_ROUTE = "no route"


class ProbeAnswer(msgspec.Struct, frozen=True):
    """A connection that was tried; `seconds` is until the answer, None without one."""

    result: ProbeResult
    seconds: float | None = None


class RuleEffect(enum.StrEnum):
    """What a rule of another program does with a packet of a Service."""

    DROP = "drop"
    QUEUE = "queue"
    NOT_TRACKED = "not tracked"
    ZONE = "another zone"
    TRANSLATED = "translated"
    SOURCE = "another source"


class Certainty(enum.IntEnum):
    """How certain it is that a rule meets a packet: unknown, for some by rate or chance, sure."""

    PERHAPS = 0
    SOME = 1
    SURE = 2


class PacketStage(enum.Enum):
    """
    Where a packet is on its way.

    ASKED goes to a frontend and nfproxy has not seen it; SENT goes to an endpoint, and ANSWER comes
    from it. HEALTH asks a health check node port. The others are of connections that processes of
    the node open.
    """

    ASKED = enum.auto()
    SENT = enum.auto()
    ANSWER = enum.auto()
    HEALTH = enum.auto()
    OWN_ASKED = enum.auto()
    OWN_SENT = enum.auto()


class ForeignRule(msgspec.Struct, frozen=True, kw_only=True):
    """
    What a rule in another program's table does with packets of a Service.

    It concerns a `frontend`, an `endpoint`, or a `health_port`. `clients` says in words of which
    clients, "" for all. `is_sure` says that it does, whatever else a packet has; else that depends
    on what is not known, or with `is_some` on a rate or on chance. `is_named` says that a condition
    is about the address, or the interface to it. `is_policy` marks a chain's policy, which drops
    what no rule accepts. `handle` is 0 where nft cannot name the rule. `packets` is what its
    counter says, None without one. `is_here` says that the frontend's address is one of the node's
    own, so that a program may answer there.
    """

    effect: RuleEffect
    stage: PacketStage
    table: str
    chain: str
    frontend: FrontendKey | None = None
    endpoint: Destination = b""
    health_port: int = 0
    clients: str = ""
    handle: int = 0
    packets: int | None = None
    comment: str = ""
    is_sure: bool = False
    is_some: bool = False
    is_named: bool = False
    is_policy: bool = False
    is_here: bool = False

    @property
    def place(self) -> tuple[str, str, int, str]:
        """Where it is: other rules have another place."""
        return self.table, self.chain, self.handle, self.comment


class InterfaceProgram(msgspec.Struct, frozen=True):
    """
    What sees packets of an interface outside nf_tables: `what` says what it is.

    `takes_packets` says that it drops or redirects those that it matches.
    """

    interface: str
    what: str
    takes_packets: bool = False


class NodeSettings(msgspec.Struct, frozen=True):
    """
    Sysctls of the network namespace; None where the kernel does not have one.

    `fragments_failed` counts packets that were too large for the way on and must not be divided,
    `reverse_path_drops` those that came in where no route leads back (rp_filter, IPv4 alone).
    """

    forwarding: Mapping[Family, bool | None]
    bridge_netfilter: Mapping[Family, bool | None]
    fragments_failed: Mapping[Family, int]
    reverse_path_drops: int = 0


class TrackedUse(msgspec.Struct, frozen=True):
    """How many connections the kernel tracks, and how many it can."""

    connections: int
    limit: int


class ProxyRuns(msgspec.Struct, frozen=True):
    """
    Which proxies run on the node, in words, "" for none.

    `hidden` says that not all processes of the node can be seen from here. `leftovers` are what
    kube-proxy serves with, or has left. `is_silent` says that this nfproxy does not answer.
    """

    nfproxy: str = ""
    kube_proxy: str = ""
    hidden: bool = False
    leftovers: tuple[str, ...] = ()
    is_silent: bool = False


class HealthAnswer(msgspec.Struct, frozen=True):
    """What a health check node port answers: an HTTP status, 0 for none, and for this Service?"""

    status: int = 0
    is_ours: bool = False


class NodeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """
    All that was read on the node. `missing` says what could not be read, and why, a line each.

    `arrived` counts what each frontend received while the command waited for that, None if it
    did not wait, and `turned_back` what rp_filter dropped meanwhile; `connections` then are
    those after the wait. `pod_mtu` is the most that pods of this node send, 0 where unknown.
    `probed_all` says that the operator wanted `probes`, `health` is by health check node port,
    and `tracked` is how full the table of connections is. `rules` are those of other programs,
    `programs` those at the interfaces on the way.
    """

    held: HeldState | None = None
    connections: ConnectionMap | None = None
    routes: Mapping[bytes, Route] | None = None
    pod_mtu: int = 0
    settings: NodeSettings | None = None
    probes: Mapping[Destination, ProbeAnswer] | None = None
    udp_probes: Mapping[Destination, ProbeAnswer] | None = None
    probed_all: bool = False
    health: Mapping[int, HealthAnswer] = msgspec.field(default_factory=dict)
    tracked: TrackedUse | None = None
    rules: tuple[ForeignRule, ...] = ()
    failed_ways: tuple[FailedWay, ...] = ()
    programs: tuple[InterfaceProgram, ...] = ()
    own_addresses: frozenset[bytes] = frozenset()
    runs: ProxyRuns | None = None
    arrived: Mapping[FrontendKey, int] | None = None
    turned_back: int = 0
    missing: tuple[str, ...] = ()
