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
from nfproxy.plan.endpoints import Destination
from nfproxy.plan.frontends import FrontendKey, SharedElement
from nfproxy.reconcile.observed import Observed

_NO_MAP: Mapping[bytes, int] = {}


class HeldState(msgspec.Struct, frozen=True):
    """
    The parts of nfproxy's tables that were asked for.

    `tables` are the families that have a table. `new_connections` are the counters of frontends,
    `comments` their comments. `remembered` counts by endpoint the clients that session affinity
    remembers. `dormant` are the families whose table the kernel does not use.
    """

    tables: frozenset[Family]
    observed: Observed
    new_connections: Mapping[FrontendKey, int]
    comments: Mapping[FrontendKey, str]
    remembered: Mapping[Destination, int] = _NO_MAP
    dormant: frozenset[Family] = frozenset()

    def lacks(self, element: SharedElement) -> bool:
        """Return whether an element that several frontends may share is missing."""
        return element not in self.observed.shared_elements


class ConnectionCounts(msgspec.Struct):
    """
    The connections of one frontend to one endpoint, by state.

    `overdue` TCP connections are unanswered for a second or longer; `half_open` of them have the
    endpoint's answer, which the client does not confirm. `source_changed` reach the
    endpoint with another source. `clients` maps the clients of open connections to their number;
    `waiting` those of overdue ones, and `masqueraded` those whose source changed, without pods that
    reached themselves.
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

    `hairpin` is that of a bridge port, None for other interfaces.
    """

    index: int
    name: str
    mtu: int = 0
    kind: str = ""
    master: int = 0
    hairpin: bool | None = None
    is_promiscuous: bool = False


class Route(msgspec.Struct, frozen=True):
    """
    The node's way to an address; `error` says in words why there is none, "" where there is one.

    `via` is the next hop, b"" where the address is on the link. `mtu` is the least of the route and
    the interface. `port` is the bridge port behind which the address is, None where unknown.
    `is_default` says that the default route leads there.
    """

    interface: NodeLink | None = None
    via: bytes = b""
    mtu: int = 0
    is_local: bool = False
    error: str = ""
    port: NodeLink | None = None
    ports: tuple[NodeLink, ...] = ()
    is_default: bool = False


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


class ForeignDrop(msgspec.Struct, frozen=True):
    """
    What may drop packets in another program's table, not in nfproxy's.

    `address` is what the rule names, b"" where it names only a `port`, and for the chain's policy,
    which drops whatever no rule accepts; `drops_all` says that there is no rule. `handle` is 0
    where nft cannot name the rule. `packets` is what its counter says, None without one.
    """

    table: str
    chain: str
    address: bytes = b""
    handle: int = 0
    packets: int | None = None
    comment: str = ""
    port: int = 0
    drops_all: bool = False


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
    kube-proxy serves with, or has left.
    """

    nfproxy: str = ""
    kube_proxy: str = ""
    hidden: bool = False
    leftovers: tuple[str, ...] = ()


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
    and `tracked` is how full the table of connections is.
    """

    held: HeldState | None = None
    connections: ConnectionMap | None = None
    routes: Mapping[bytes, Route] | None = None
    pod_mtu: int = 0
    settings: NodeSettings | None = None
    probes: Mapping[Destination, ProbeAnswer] | None = None
    probed_all: bool = False
    health: Mapping[int, HealthAnswer] = msgspec.field(default_factory=dict)
    tracked: TrackedUse | None = None
    drops: tuple[ForeignDrop, ...] = ()
    runs: ProxyRuns | None = None
    arrived: Mapping[FrontendKey, int] | None = None
    turned_back: int = 0
    missing: tuple[str, ...] = ()
