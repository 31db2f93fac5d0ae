"""
What is wrong with claims to frontends: lost to another Service, refused, or in another's place.

Users who may create Services choose external IPs, and with them which traffic of the node a Service
takes (CVE-2020-8554, KEP-5707).
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from nfproxy.model.changes import Problem
from nfproxy.model.nodeconfig import KeptAddresses
from nfproxy.model.service import ObjectName, Protocol, Service
from nfproxy.plan.frontends import FrontendKey, FrontendKind

#: The Service of the API server itself; its cluster IP may be the API server that nfproxy uses.
API_SERVER_SERVICE = ObjectName("default", "kubernetes")


class ClaimReason(enum.StrEnum):
    """Why a claim is reported; also the reason of its Event."""

    CONFLICT = "FrontendConflict"
    REFUSED = "FrontendRefused"
    SHADOWS = "FrontendShadows"
    LIMITED = "ServiceLimited"


class ClaimFinding(NamedTuple):
    """
    Something about claims of one Service at one field; it may hold for many frontends.

    `what` ends a sentence that begins with a frontend. `other` is the Service that is concerned,
    None for none; ``{other}`` in `what` stands for it.
    """

    reason: ClaimReason
    service: ObjectName
    field: str
    what: str
    other: ObjectName | None = None


class BegunFinding(msgspec.Struct, frozen=True):
    """A finding that has begun, with one of its frontends and their number."""

    finding: ClaimFinding
    example: FrontendKey
    count: int

    def problem(self, source_file: Callable[[ObjectName], str]) -> Problem:
        """Return it for a person. `source_file` names a Service's file, "" where none is."""
        _, service, field, what, other = self.finding
        named = ""
        if other is not None:
            place = source_file(other)
            named = f"Service {other}{f' in {place}' if place else ''}"
        text = f"{self.example} {what.format(other=named)}"
        if self.count > 1:
            text += f" (and {self.count - 1:,} more frontends)"
        return Problem(source_file(service), f"Service {service}", field, text, kind="Service")


class ClaimFindings:
    """
    All findings at present. Adding and removing cost the same however many there are.

    `counts` has the number of frontends by reason.
    """

    def __init__(self) -> None:
        self.counts: Counter[ClaimReason] = Counter()
        self._frontends: dict[ClaimFinding, dict[FrontendKey, None]] = {}
        self._begun: dict[ClaimFinding, None] = {}

    def replace(self, key: FrontendKey, old: ClaimFinding | None, new: ClaimFinding | None) -> None:
        """Put what holds for a frontend in place of what held before."""
        if old == new:
            return
        if old is not None:
            self.counts[old.reason] -= 1
            keys = self._frontends[old]
            del keys[key]
            if not keys:
                del self._frontends[old]
                self._begun.pop(old, None)
        if new is not None:
            self.counts[new.reason] += 1
            if new not in self._frontends:
                self._frontends[new] = {}
                self._begun[new] = None
            self._frontends[new][key] = None

    def take_begun(self) -> list[BegunFinding]:
        """Return what has begun since the last call and still holds, in a stable order."""
        begun, self._begun = self._begun, {}
        return [self._with_example(finding) for finding in sorted(begun, key=_order)]

    def current(self) -> list[BegunFinding]:
        """
        Return all that hold, whether or not they have been taken, in a stable order.

        May be called in any thread: what comes or goes meanwhile may be missing.
        """
        return [
            self._with_example(finding)
            for finding in sorted(self._frontends, key=_order)
            if self._frontends.get(finding)
        ]

    def _with_example(self, finding: ClaimFinding) -> BegunFinding:
        keys = list(self._frontends[finding])
        return BegunFinding(finding, min(keys), len(keys))


def _order(finding: ClaimFinding) -> tuple[object, ...]:
    return (finding.service, finding.reason, finding.field, finding.what, finding.other or ())


def refusal(kind: FrontendKind, key: FrontendKey, service: ObjectName, kept: KeptAddresses) -> str:
    """
    Return why a Service must not have a frontend at all, "" where it may.

    A claim that cuts this node off from its API server would stay for ever: nfproxy would not even
    hear that the Service is deleted. One at nfproxy's own ports answers the kubelet's probes.
    """
    if key.protocol is not Protocol.TCP:
        return ""
    # A node port answers at any address of the node.
    addresses = (key.address,) if key.address else kept.own_addresses
    # What ipvs mode of kube-proxy left binds every cluster IP to the node.
    own = kept.node_addresses if kind is FrontendKind.CLUSTER_IP else kept.own_addresses
    for address in addresses:
        if (address, key.port) in kept.api_servers and not (
            kind is FrontendKind.CLUSTER_IP and service == API_SERVER_SERVICE
        ):
            return "is where this node reaches the API server; no Service may take it over"
    for listener in kept.listeners:
        at_every = not listener.address and (not key.address or key.address in own)
        if key.port == listener.port and (at_every or listener.address in addresses):
            return f"is where nfproxy serves {listener.what}; no Service may take it over"
    return ""


def concerned_by(before: KeptAddresses, after: KeptAddresses) -> Callable[[Service], bool]:
    """Return whether another answer of :func:`refusal` is possible, as a function of a Service."""
    own = before.own_addresses ^ after.own_addresses
    own |= before.node_addresses ^ after.node_addresses
    servers = before.api_servers ^ after.api_servers
    listeners = set(before.listeners) ^ set(after.listeners)
    listening = {*before.listeners, *after.listeners}
    addresses = {*own, *(address for address, _ in servers)}
    ports = {port for _, port in servers} | {listener.port for listener in listeners}
    if own:  # a node port answers at every address of the node
        ports |= {port for _, port in before.api_servers | after.api_servers}
        ports |= {listener.port for listener in listening}

    def is_concerned(service: Service) -> bool:
        return any(
            port.port in ports or port.node_port in ports for port in service.ports
        ) or not addresses.isdisjoint(
            (
                *service.cluster_ips,
                *service.external_ips,
                *service.load_balancer_ips,
                *service.router_ips,
            )
        )

    return is_concerned
