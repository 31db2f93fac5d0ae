"""Why some clients, or some endpoints, are left out on purpose: policies, and topology hints."""

from __future__ import annotations

from collections.abc import Iterator

from nfproxy.insight.diagnosis import Code, Diagnosis, ObjectField, Severity
from nfproxy.insight.sight import PortSight
from nfproxy.plan.endpoints import Topology, hinted, usable
from nfproxy.text import shown_name

_MOST_NAMES = 3


def policy_causes(port: PortSight) -> Iterator[Diagnosis]:
    """Yield whom policies and hints leave without an endpoint, or with fewer."""
    yield from _local(port)
    yield from _terminating_here(port)
    yield from _hints(port)


def _local(port: PortSight) -> Iterator[Diagnosis]:
    """Yield that a policy Local leaves clients of this node without an endpoint."""
    service = port.service
    if port.chosen.local or not port.uses_local:
        return
    node = port.sight.config.node_name
    look = (f"kubectl -n {service.name.namespace} get pods -o wide",)
    because = (*_elsewhere(port),)
    # Which node this is decides it. Where the objects do not hold the Node, the name is a guess.
    is_sure = port.sight.has_node
    if service.internal_local:
        yield Diagnosis(
            Severity.FAIL if is_sure else Severity.NOTE,
            Code.NO_LOCAL_INTERNAL,
            f"internalTrafficPolicy is Local, and {node} has no endpoint: clients here are dropped",
            because=because,
            look=look,
            about=service_field(port, "spec.internalTrafficPolicy"),
            brief=f"Local: no endpoint on {node}",
        )
    if service.external_local and port.is_external:
        check = service.health_check_node_port
        remedy = (
            f"load balancers ask health check node port {check} and leave {node} out"
            if check
            else "clients have to use a node that has one"
        )
        yield Diagnosis(
            Severity.NOTE if check or not is_sure else Severity.WARN,
            Code.NO_LOCAL_EXTERNAL,
            f"externalTrafficPolicy is Local, and {node} has no endpoint: outside clients are "
            f"dropped here; {remedy}",
            because=because,
            look=look,
            about=service_field(port, "spec.externalTrafficPolicy"),
            brief=f"Local: no endpoint on {node}",
        )


def _terminating_here(port: PortSight) -> Iterator[Diagnosis]:
    """Yield that policy Local has only terminating endpoints here, and other nodes ready ones."""
    here, service = port.chosen.local, port.service
    if not here or port.found[here[0]].ready or not usable(port.found)[1]:
        return  # a list of endpoints is all ready, or all terminating
    node = port.sight.config.node_name
    is_internal = service.internal_local
    is_external = service.external_local and port.is_external
    check = service.health_check_node_port
    # Load balancers that ask the health check node port leave this node out already.
    is_asked = bool(check) and not is_internal
    policy = "internalTrafficPolicy" if is_internal else "externalTrafficPolicy"
    whose = "clients here" if is_internal else "outside clients"
    if is_internal and is_external:
        policy, whose = "externalTrafficPolicy, as internalTrafficPolicy,", "clients"
    then = f"; load balancers ask health check node port {check} and leave {node} out"
    yield Diagnosis(
        Severity.NOTE if is_asked or not port.sight.has_node else Severity.WARN,
        Code.TERMINATING_ONLY,
        f"{policy} is Local, and on {node} only endpoints that terminate still serve: new "
        f"connections of {whose} go to them until they are gone, and then are dropped here"
        f"{then if is_asked else ''}",
        because=(f"{len(here):,} terminating and still serving on {node}",),
        look=(f"kubectl -n {service.name.namespace} get pods -o wide",),
        about=service_field(
            port, "spec.internalTrafficPolicy" if is_internal else "spec.externalTrafficPolicy"
        ),
        brief=f"Local: only terminating endpoints on {node}",
    )


def _elsewhere(port: PortSight) -> Iterator[str]:
    """Yield where the endpoints are, and which of them say nothing about their node."""
    nodes = {e.node for e in port.found.values() if e.node}
    nameless = sum(e.node is None for e in port.found.values())
    if nodes:
        shown = [shown_name(node) for node in sorted(nodes)[:_MOST_NAMES]]
        more = f" and {len(nodes) - len(shown)} more" if len(nodes) > len(shown) else ""
        yield f"endpoints are on {', '.join(shown)}{more}"
    if nameless:
        yield f"{endpoints_there(nameless)} without nodeName, which count as local nowhere"
    own = port.sight.config.node_name
    alike = [node for node in sorted(nodes) if _short(node) == _short(own) and node != own]
    if alike:
        yield (
            f"{shown_name(alike[0])} may be this node: nfproxy takes its name for "
            f"{shown_name(own)} (--hostname-override)"
        )


def _short(node: str) -> str:
    return node.partition(".")[0].lower()


def _hints(port: PortSight) -> Iterator[Diagnosis]:
    """Yield that topology hints keep connections of this node from some endpoints."""
    chosen, config = port.chosen, port.sight.config
    if not port.uses_cluster:
        return
    if chosen.topology is Topology.NONE:
        yield from _hints_without_effect(port)
        return
    ready, _ = usable(port.found)
    away = sum(
        not hinted(e, chosen.topology, config.node_name, config.zone) for e in ready.values()
    )
    if not away:
        return
    where = (
        f"zone {shown_name(config.zone)}" if chosen.topology is Topology.ZONE else config.node_name
    )
    yield Diagnosis(
        Severity.NOTE,
        Code.HINTS_ELSEWHERE,
        f"topology hints keep connections in {where}: {away} of {len(ready)} endpoints are for "
        "others",
        look=("spec.trafficDistribution of the Service",),
        about=service_field(port, "spec.trafficDistribution"),
        brief=f"{away} hinted for others",
    )


def _hints_without_effect(port: PortSight) -> Iterator[Diagnosis]:
    """Yield that endpoints have hints, and none is for this node or its zone."""
    ready = [endpoint for endpoint in port.found.values() if endpoint.ready]
    zones = {zone for endpoint in ready for zone in endpoint.zone_hints}
    config = port.sight.config
    if not zones or config.zone in zones:
        return
    shown = ", ".join(map(shown_name, sorted(zones)[:_MOST_NAMES]))
    own = (
        f"zone {shown_name(config.zone)}" if config.zone else f"{config.node_name}, without a zone"
    )
    yield Diagnosis(
        Severity.NOTE,
        Code.HINTS_IGNORED,
        f"topology hints are for {shown}, none for {own}: connections here go to all endpoints",
        look=("spec.trafficDistribution of the Service; the Node's label for its zone",),
        about=service_field(port, "spec.trafficDistribution"),
        brief="no endpoint hinted for this zone",
    )


def endpoints_there(count: int) -> str:
    """Return ``2 endpoints are there``."""
    return f"{count:,} endpoint is there" if count == 1 else f"{count:,} endpoints are there"


def service_field(port: PortSight, field: str) -> ObjectField:
    """Return a field of the port's Service."""
    return ObjectField("Service", *port.service.name, field)
