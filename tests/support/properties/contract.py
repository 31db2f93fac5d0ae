"""
What packets to Services should get, by kube-proxy's contract: from objects alone.

A second opinion that knows neither rules nor plan. Where nfproxy differs on purpose, a comment says
how; ``deploy/docs/differences.md`` is for users.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from support.packets.scenes import TARGET_PORT
from support.properties.packetcases import CIDRS, LOOPBACK_CLIENT, PLACES, Case, ListedEndpoint, Row

from nfproxy.insight.packet import Fate, PacketOutcome
from nfproxy.model.addresses import format_address
from nfproxy.model.service import Service, ServicePort

#: ``refused``, ``dropped``, ``untouched``, or an endpoint as text.
Result = str


def result(outcome: PacketOutcome) -> Result:
    """Return an outcome of the evaluator in the terms of `expected`."""
    if outcome.fate is Fate.ENDPOINT:
        return _endpoint(outcome.address, outcome.port, is_masqueraded=outcome.is_masqueraded)
    words = {Fate.REJECTED: "refused", Fate.DROPPED: "dropped", Fate.UNTOUCHED: "untouched"}
    return words.get(outcome.fate, str(outcome))


def _endpoint(address: bytes, port: int, *, is_masqueraded: bool) -> Result:
    text = f"{format_address(address)} port {port}"
    return f"{text} masqueraded" if is_masqueraded else text


class Claim(NamedTuple):
    """Why a Service's port answers at an address: the least claim of all wins."""

    is_not_cluster_ip: bool
    created: str
    name: str
    port_name: str
    kind: str
    service: int  # which of the case


class Contract:
    """A case, and what follows from it. `own` are the addresses of node-1."""

    def __init__(self, case: Case, own: Iterable[bytes]) -> None:
        self._case = case
        self._config = case.config
        self._own = set(own)

    def expected(self, row: Row) -> set[Result]:
        """Return everything that a packet may get."""
        packet, family = row.packet, row.packet.family
        is_own = packet.destination in self._own or row.client is LOOPBACK_CLIENT
        claim = min(self._claims(row), default=None)
        if claim is None and is_own and self._takes_node_ports(row):
            claim = min(self._node_port_claims(row), default=None)
        if claim is not None:
            return self._answer(row, claim)
        if row.client is LOOPBACK_CLIENT:
            is_rejected = self._config.rejects_loopback and any(self._node_port_claims(row))
            return {"refused" if is_rejected else "untouched"}
        if any(s.cluster_ip(family) == packet.destination for s in self._case.services):
            return {"refused"}
        is_unused = any(packet.destination in cidr for cidr in CIDRS)
        return {"dropped" if self._case.has_service_cidr and is_unused else "untouched"}

    def _ports(self, row: Row) -> Iterator[tuple[int, Service, ServicePort]]:
        """Yield the ports of the packet's protocol of Services of its family."""
        for index, service in enumerate(self._case.services):
            if service.cluster_ip(row.packet.family) is not None:
                for port in service.ports:
                    if port.protocol == row.packet.protocol:
                        yield index, service, port

    def _claims(self, row: Row) -> Iterator[Claim]:
        to = row.packet.destination
        for index, service, port in self._ports(row):
            if port.port != row.packet.port:
                continue
            kind = ""
            if service.cluster_ip(row.packet.family) == to:
                kind = "cluster IP"
            elif to in service.load_balancer_ips:
                kind = "load balancer"
            elif self._config.external_ips and to in service.external_ips:
                kind = "external"
            elif self._config.router_ips and to in service.router_ips:
                # Without endpoints the node's routes decide (KEP-6272).
                kind = "router" if _usable(self._case.endpoints[index]) else ""
            if kind:
                yield _claim(service, port, kind, index)

    def _node_port_claims(self, row: Row) -> Iterator[Claim]:
        for index, service, port in self._ports(row):
            if port.node_port and port.node_port == row.packet.port:
                yield _claim(service, port, "node port", index)

    def _takes_node_ports(self, row: Row) -> bool:
        if row.client is LOOPBACK_CLIENT:
            return False
        prefixes = self._config.node_port_prefixes.get(row.packet.family)
        return prefixes is None or any(row.packet.destination in one for one in prefixes)

    # --- the answer ------------------------------------------------------------------------

    def _answer(self, row: Row, claim: Claim) -> set[Result]:
        service = self._case.services[claim.service]
        listed = self._case.endpoints[claim.service]
        source = row.packet.source
        if claim.kind in ("load balancer", "router"):
            ranges = [r for r in service.source_ranges if len(r.network) == len(source)]
            if ranges and not any(source in one for one in ranges):
                return {"dropped"}
        everywhere = _usable(listed)
        here = _usable(
            one
            for one in listed
            if one.is_placed and PLACES[one.host].node == self._config.node_name
        )
        if not everywhere:
            return {"refused"}
        if claim.kind == "cluster IP":
            chosen = here if service.internal_local else everywhere
            is_marked = self._config.masquerade_all or (
                self._knows_pods(row) and not self._is_pod(row)
            )
            return self._balanced(row, chosen, is_marked=is_marked) or {"dropped"}
        if not service.external_local:
            return self._balanced(row, everywhere, is_marked=True)
        if self._knows_pods(row) and self._is_pod(row):
            # nfproxy masquerades pods that may be another node's: an endpoint elsewhere would
            # answer them directly.
            return self._balanced(row, everywhere, is_marked=self._may_be_far(row))
        if source in self._own:
            return self._balanced(row, everywhere, is_marked=True)
        if not here:
            return {"untouched" if claim.kind == "router" else "dropped"}
        return self._balanced(row, here, is_marked=False)

    def _balanced(self, row: Row, chosen: list[ListedEndpoint], *, is_marked: bool) -> set[Result]:
        found = set()
        for one in chosen:
            address = one.endpoint(row.packet.family).address
            # Packets to the node itself do not pass postrouting.
            stays = address in self._own and row.packet.interface != ""
            is_masqueraded = (is_marked or address == row.packet.source) and not stays
            found.add(_endpoint(address, TARGET_PORT, is_masqueraded=is_masqueraded))
        return found

    # --- who asks --------------------------------------------------------------------------

    def _knows_pods(self, row: Row) -> bool:
        pods = self._config.local_pods
        by_name = bool(pods.bridge or pods.interface_prefix)
        return by_name or row.packet.family in pods.prefixes

    def _is_pod(self, row: Row) -> bool:
        pods = self._config.local_pods
        if pods.bridge:
            return row.packet.interface == pods.bridge
        if pods.interface_prefix:
            return bool(row.packet.interface) and row.packet.interface.startswith(
                pods.interface_prefix
            )
        return row.packet.source in pods.prefixes[row.packet.family]

    def _may_be_far(self, row: Row) -> bool:
        pods = self._config.local_pods
        if pods.own is None or pods.bridge or pods.interface_prefix:
            return False
        return not any(row.packet.source in one for one in pods.own.get(row.packet.family, ()))


def _claim(service: Service, port: ServicePort, kind: str, index: int) -> Claim:
    is_other = kind != "cluster IP"
    return Claim(is_other, service.created, service.name.name, port.name, kind, index)


def _usable(listed: Iterable[ListedEndpoint]) -> list[ListedEndpoint]:
    """Return the ready ones; without any those that serve while they terminate."""
    known = list(listed)
    ready = [one for one in known if one.ready]
    return ready or [one for one in known if one.serving and one.terminating]
