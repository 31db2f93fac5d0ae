"""
The answer of ``nfproxy explain`` as values: what ``-o json`` prints, and what its text is made of.

Field names in JSON are those of the API (camel case). Fields are only ever added. What needs the
node's kernel is None until :mod:`nfproxy.insight.onnode` has filled it in; "not looked at" and
"looked, and nothing there" differ.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Any

import msgspec

from nfproxy.insight.daemonstatus import API_VERSION
from nfproxy.insight.diagnosis import Diagnosis
from nfproxy.model.addresses import Family, format_address, parse_address
from nfproxy.model.service import Protocol
from nfproxy.nft.schema import port_bytes
from nfproxy.plan.endpoints import Destination
from nfproxy.plan.frontends import FrontendKey, FrontendKind


class Conclusion(enum.StrEnum):
    """The verdict on a Service port, or on all of an explanation."""

    WORKS = "works"
    PARTLY = "partly"
    REFUSED = "refused"
    DROPPED = "dropped"
    UNKNOWN = "unknown"


_WORST = (
    *(Conclusion.REFUSED, Conclusion.DROPPED, Conclusion.PARTLY),
    *(Conclusion.UNKNOWN, Conclusion.WORKS),
)


def worst_conclusion(some: Iterable[Conclusion]) -> Conclusion:
    """Return the worst of some verdicts, unknown for none."""
    return min(some, key=_WORST.index, default=Conclusion.UNKNOWN)


def together(some: Iterable[Conclusion]) -> Conclusion:
    """Return the verdict on several ports of one node: partly where they differ."""
    found = set(some)
    if len(found) > 1:
        return Conclusion.PARTLY
    return found.pop() if found else Conclusion.UNKNOWN


class Reaction(enum.StrEnum):
    """What a frontend does with a new connection of one kind of client."""

    ENDPOINTS = "endpoints"
    REFUSED = "refused"
    DROPPED = "dropped"
    ROUTED = "routed"  # ipMode Router without an endpoint: the node's routes decide
    ABSENT = "absent"  # the frontend is not this Service's, or is not made at all
    UNKNOWN = "unknown"  # of one client: its packet meets a rule that cannot be followed


class SourceNAT(enum.StrEnum):
    """Whose connections get the node's address as their source."""

    NONE = "none"
    ALWAYS = "always"
    NOT_PODS = "clients that are no pods"
    NODE_ONLY = "the node itself"


class Seen(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """
    What the explanation rests on.

    `objects` says where objects are from (``files``, an API server's address, ``nfproxy``), "" for
    nowhere. `kernel`, `connections` and `packets` say whether those were looked at. `at` is the
    time, RFC 3339. `missing` says what was not looked at, and why, a line each. `unusable` are
    files that gave no usable object.
    """

    objects: str = ""
    resource_version: str = ""
    node: str = ""
    kernel: bool = False
    connections: bool = False
    packets: bool = False
    connection_count: int | None = None
    at: str = ""
    missing: tuple[str, ...] = ()
    unusable: tuple[str, ...] = ()


class ExplainedService(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The Service's fields that decide. `type` is the API's, "" where it is unknown."""

    namespace: str
    name: str
    type: str = ""
    external_traffic_policy: str = "Cluster"
    internal_traffic_policy: str = "Cluster"
    session_affinity_seconds: int | None = None
    source_ranges: tuple[str, ...] = ()
    health_check_node_port: int = 0


class Answers(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a frontend does for pods of this node, for the node itself and for other clients."""

    pods: Reaction
    node: Reaction
    outside: Reaction


class AnswerCounts(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Over how many endpoints each kind of client is balanced."""

    pods: int = 0
    node: int = 0
    outside: int = 0


class InKernel(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What the kernel has of a frontend: ``equal``, ``missing``, ``differs`` or ``unknown``."""

    state: str
    endpoints: tuple[str, ...] = ()


class FrontendRow(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """
    One address and port of a Service port; `address` is "" for a node port on any address.

    `guarded` says that only `source_ranges` of the Service may use it. `winner` is the Service that
    has it instead, "" where it is this one's. `reason` says why some clients get no answer, "" if
    all get one. `addresses` are those of the node that accept a node port, as far as known.
    """

    kind: FrontendKind
    family: str
    protocol: str
    address: str
    port: int
    answer: Answers
    endpoint_counts: AnswerCounts = AnswerCounts()
    source_nat: SourceNAT = msgspec.field(default=SourceNAT.NONE, name="sourceNAT")
    guarded: bool = False
    winner: str = ""
    reason: str = ""
    addresses: tuple[str, ...] = ()
    in_kernel: InKernel | None = None
    new_connections: int | None = None
    refused: int | None = None

    @classmethod
    def of(cls, key: FrontendKey, kind: FrontendKind, **fields: Any) -> FrontendRow:
        """Return the row of a frontend; `fields` are those that its key does not say."""
        return cls(
            kind=kind,
            family=key.family.label,
            protocol=key.protocol.name,
            address=format_address(key.address) if key.address else "",
            port=key.port,
            **fields,
        )

    @property
    def key(self) -> FrontendKey:
        """The frontend's key in the desired state and in the kernel."""
        family = next(f for f in Family if f.label == self.family)
        address = parse_address(self.address) if self.address else b""
        return FrontendKey(family, address, Protocol[self.protocol], self.port)


class EndpointUse(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Whether new connections go to an endpoint: those of policy Cluster, and of policy Local."""

    cluster: bool = False
    local: bool = False


class EndpointRoute(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The node's way to an endpoint; `error` says why there is none, "" where there is one."""

    interface: str = ""
    via: str = ""
    mtu: int | None = None
    error: str = ""


class EndpointConnections(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Connections to an endpoint by state; `source_changed` have the node's address as source."""

    open: int = 0
    unanswered: int = 0
    closing: int = 0
    source_changed: int = 0


class EndpointProbe(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a connection from the node came to: ``ok``, ``refused``, ``timeout`` or ``no route``."""

    result: str
    ms: float | None = None


class EndpointRow(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """
    One endpoint of a Service port, whether or not it gets traffic.

    `port` is None where its slice has no such port. `pod` is ``namespace/name``, and `node`, `pod`
    and `zone` are "" where unknown. `reason` says why new connections do not go there, or not all
    of them; "" where they do.
    """

    address: str
    port: int | None = None
    pod: str = ""
    node: str = ""
    local: bool = False
    slice: str = ""
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    zone: str = ""
    used: EndpointUse = EndpointUse()
    reason: str = ""
    route: EndpointRoute | None = None
    connections: EndpointConnections | None = None
    probe: EndpointProbe | None = None

    @property
    def destination(self) -> Destination:
        """Packed address and port as maps hold them; the address alone without a port."""
        return parse_address(self.address) + (port_bytes(self.port) if self.port else b"")


class StaleEndpoint(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An endpoint that left while connections to it are open; `clients` are some of them."""

    endpoint: str
    open: int
    clients: tuple[str, ...] = ()


class ExplainedPort(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """
    One service port in one family.

    `service` is ``namespace/name``; an explanation of a pod's address has ports of many Services.
    `health_check` is the HTTP status that this node's health check node port, `health_check_port`,
    should answer.
    """

    service: str
    name: str
    protocol: str
    port: int
    family: str
    conclusion: Conclusion = msgspec.field(name="verdict")
    frontends: tuple[FrontendRow, ...] = ()
    endpoints: tuple[EndpointRow, ...] = ()
    stale: tuple[StaleEndpoint, ...] = ()
    health_check: int | None = None
    health_check_port: int = 0


class NodeView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How one service port answers on one node: a row of ``--all-nodes``."""

    node: str
    service: str
    port: str
    family: str
    local_endpoints: int
    all_endpoints: int
    inside: Reaction
    inside_endpoints: int
    outside: Reaction | None
    outside_endpoints: int = 0
    health_check: int | None = None


class ClientStep(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """
    One step of a client's packet: at which hook, what a rule does there, and what comes of it.

    `is_end` marks the step that decides. Steps behind it are those of clients that get further.
    """

    at: str
    rule: str
    result: str = ""
    is_end: bool = False


class ClientTarget(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a client gets at one address and port: ``10.96.0.80:80/tcp``."""

    asked: str
    what: str = ""
    answer: Reaction = Reaction.UNKNOWN
    endpoints: tuple[str, ...] = ()
    source_changed: bool = False
    rejected_with: str = ""


class ClientPath(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """
    What happens to one client (``--from``); `what` is ``outside``, ``pod`` or ``node``.

    `name` says in words who it is. `target` is what it asks for and gets, None where nothing can be
    asked for in its family. `elsewhere` is what it would get at the Service's other addresses.
    """

    address: str
    what: str
    name: str = ""
    target: ClientTarget | None = None
    steps: tuple[ClientStep, ...] = ()
    elsewhere: tuple[ClientTarget, ...] = ()


class Explanation(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """
    The answer. `asked` is the question's text, `title` what it is about in words.

    `conclusion` is that of all ports together, the worst of several nodes. `service` is None unless
    the answer is about one. An empty `nodes` means that one node was looked at.
    """

    api_version: str = API_VERSION
    kind: str = "Explanation"
    asked: str
    title: str = ""
    seen: Seen = Seen()
    conclusion: Conclusion = msgspec.field(name="verdict", default=Conclusion.UNKNOWN)
    findings: tuple[Diagnosis, ...] = ()
    service: ExplainedService | None = None
    ports: tuple[ExplainedPort, ...] = ()
    nodes: tuple[NodeView, ...] = ()
    client: ClientPath | None = None


def to_data(explanation: Explanation) -> dict[str, Any]:
    """Return it as dictionaries, lists, strings and numbers, in the order of its fields."""
    data: dict[str, Any] = msgspec.to_builtins(explanation)
    return data
