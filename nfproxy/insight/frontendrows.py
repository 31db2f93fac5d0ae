"""Every address and port of a Service: what it answers whom, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator

from nfproxy.insight.diagnosis import Code, Diagnosis, ObjectField, Severity
from nfproxy.insight.explanation import AnswerCounts, Answers, FrontendRow, Reaction, SourceNAT
from nfproxy.insight.sight import PortSight, Sight
from nfproxy.kube.addresses import NO_SOURCE
from nfproxy.model.addresses import Family, format_address
from nfproxy.model.service import ObjectName, Service
from nfproxy.nft.chains import NO_LOCAL, REJECT, Policy, Shape, is_guard
from nfproxy.plan.claims import BegunFinding, ClaimReason
from nfproxy.plan.frontends import Frontend, FrontendKey, FrontendKind

_NOWHERE = Answers(pods=Reaction.ABSENT, node=Reaction.ABSENT, outside=Reaction.ABSENT)
_OFF = "gate AllowServiceExternalIPs is off"
_CODES = {
    ClaimReason.CONFLICT: (Severity.FAIL, Code.FRONTEND_CONFLICT),
    ClaimReason.REFUSED: (Severity.FAIL, Code.FRONTEND_REFUSED),
    ClaimReason.SHADOWS: (Severity.WARN, Code.FRONTEND_SHADOWS),
    ClaimReason.LIMITED: (Severity.WARN, Code.SERVICE_LIMITED),
}


def frontend_rows(port: PortSight) -> tuple[FrontendRow, ...]:
    """Return a row for each frontend that a port asks for in its family, also lost ones."""
    sight, name = port.sight, port.service.name
    plan = sight.planner.desired.plan_of(name)
    if plan is None:
        return ()
    rows = [
        _row(port, frontend)
        for frontend in plan.frontends
        if frontend.key.family is port.family
        and frontend.key.protocol is port.port.protocol
        and frontend.claim.port_name == port.port.name
    ]
    for one in plan.refused:
        number = port.port.port if one.key.address else port.port.node_port
        if one.key[0::2] == (port.family, port.port.protocol) and one.key.port == number:
            rows.append(_absent(one.key, one.kind, one.why))
    if not sight.config.external_ips:
        for address in port.service.external_ips:
            if len(address) == port.family.size:
                key = FrontendKey(port.family, address, port.port.protocol, port.port.port)
                rows.append(_absent(key, FrontendKind.EXTERNAL_IP, _OFF))
    return tuple(rows)


def _absent(key: FrontendKey, kind: FrontendKind, reason: str, winner: str = "") -> FrontendRow:
    return FrontendRow.of(
        key,
        kind,
        answer=_NOWHERE,
        winner=winner,
        reason=reason,
    )


def _row(port: PortSight, frontend: Frontend) -> FrontendRow:
    key, config = frontend.key, port.sight.config
    holder = port.sight.planner.desired.frontends.get(key)
    if holder is not None and holder.claim.service != port.service.name:
        winner = str(holder.claim.service)
        return _absent(key, frontend.kind, f"belongs to {winner}", winner)
    shape = next((chain for chain in frontend.chains if isinstance(chain, Shape)), None)
    knows_pods = config.local_pods.exists(key.family)
    answers, counts = _answers(frontend, shape, knows_pods=knows_pods)
    guarded = is_guard(frontend.verdict)
    if guarded and _closed(port.service, key.family):
        dropped = Reaction.DROPPED
        answers, counts = Answers(pods=dropped, node=dropped, outside=dropped), AnswerCounts()
    return FrontendRow.of(
        key,
        frontend.kind,
        answer=answers,
        endpoint_counts=counts,
        source_nat=_source_nat(shape, all_=config.masquerade_all, knows_pods=knows_pods),
        guarded=guarded,
        addresses=() if key.address else accepted_addresses(port.sight, key.family),
    )


def _answers(
    frontend: Frontend, shape: Shape | None, *, knows_pods: bool
) -> tuple[Answers, AnswerCounts]:
    """Return what a frontend does with connections, and over how many endpoints."""
    if shape is None:
        one = {REJECT: Reaction.REFUSED, NO_LOCAL: Reaction.DROPPED}[frontend.answer]
        return Answers(pods=one, node=one, outside=one), AnswerCounts()
    first, second = map(len, frontend.slot_ranges)
    if shape.policy is not Policy.LOCAL:
        one = Reaction.ENDPOINTS
        counts = AnswerCounts(pods=first, node=first, outside=first)
        return Answers(pods=one, node=one, outside=one), counts
    inside = Reaction.ENDPOINTS if second else Reaction.DROPPED
    outside = Reaction.ROUTED if shape.routed else Reaction.DROPPED
    if first:
        outside = Reaction.ENDPOINTS
    # Where the rules cannot recognise pods of this node, these are outside clients as all others.
    pods, pod_count = (inside, second) if knows_pods else (outside, first)
    return (
        Answers(pods=pods, node=inside, outside=outside),
        AnswerCounts(pods=pod_count, node=second, outside=first),
    )


def _source_nat(shape: Shape | None, *, all_: bool, knows_pods: bool) -> SourceNAT:
    """Return whose source address changes, as ``rulesets/source.nft.j2`` does it."""
    if shape is None:
        return SourceNAT.NONE
    if shape.policy is Policy.EXTERNAL:
        return SourceNAT.ALWAYS
    if shape.policy is Policy.LOCAL:
        return SourceNAT.NODE_ONLY
    if all_:
        return SourceNAT.ALWAYS
    return SourceNAT.NOT_PODS if knows_pods else SourceNAT.NONE


def accepted_addresses(sight: Sight, family: Family) -> tuple[str, ...]:
    """Return the node's addresses that accept node ports, as far as the objects name them."""
    prefixes = sight.config.node_port_prefixes.get(family)
    known = sight.config.kept.node_addresses
    return tuple(
        format_address(address)
        for address in sorted(known)
        if len(address) == family.size
        and (prefixes is None or any(address in prefix for prefix in prefixes))
    )


def _closed(service: Service, family: Family) -> bool:
    """Return whether no range of loadBalancerSourceRanges in a family was valid."""
    ranges = [prefix for prefix in service.source_ranges if prefix.family is family]
    return ranges == [NO_SOURCE[family]]


def frontend_causes(sight: Sight, service: Service) -> Iterator[Diagnosis]:
    """Yield what is wrong with a Service's addresses and node ports."""
    for begun in sight.claims.get(service.name, ()):
        yield _claim(service.name, begun)
    for text in sight.losers.get(service.name, ()):
        yield Diagnosis(
            Severity.NOTE,
            Code.FRONTEND_CONFLICT,
            f"another Service asks for what this one has: {text}",
            about=ObjectField("Service", *service.name),
            service=str(service.name),
            brief=f"also asked for: {text}",
        )
    if service.external_ips and not sight.config.external_ips:
        shown = ", ".join(map(format_address, service.external_ips[:3]))
        yield Diagnosis(
            Severity.FAIL,
            Code.EXTERNAL_IPS_OFF,
            f"external IPs are not served: {shown} ({_OFF})",
            look=("featureGates of the configuration",),
            about=ObjectField("Service", *service.name, "spec.externalIPs"),
            service=str(service.name),
            brief="external IPs are off",
        )
    yield from _other_family(service)
    yield from _no_source(service)
    yield from _in_pod_range(sight, service)
    if any(port.node_port for port in service.ports):
        yield from _no_node_port_address(sight, service)


def _claim(name: ObjectName, begun: BegunFinding) -> Diagnosis:
    finding = begun.finding
    level, code = _CODES[finding.reason]
    other = str(finding.other) if finding.other else ""
    what = finding.what.format(other=f"Service {other}")
    more = f" (and {begun.count - 1:,} more of its frontends)" if begun.count > 1 else ""
    look = (f"kubectl get services -A | grep -w {other.partition('/')[2]}",) if other else ()
    return Diagnosis(
        level,
        code,
        f"{begun.example} {what}{more}",
        look=look,
        about=ObjectField("Service", *name, finding.field),
        service=str(name),
        brief=f"{begun.example} belongs to {other}"
        if finding.reason is ClaimReason.CONFLICT
        else f"{begun.example} {what}",
    )


def _other_family(service: Service) -> Iterator[Diagnosis]:
    """Yield that addresses are of a family in which the Service has no cluster IP."""
    outer = (*service.external_ips, *service.load_balancer_ips, *service.router_ips)
    for family in Family if outer else ():
        found = [a for a in outer if len(a) == family.size]
        if not found or family in service.families:
            continue
        is_external = found[0] in service.external_ips
        field = FrontendKind.EXTERNAL_IP if is_external else FrontendKind.LOAD_BALANCER_IP
        yield Diagnosis(
            Severity.FAIL,
            Code.FAMILY_NOT_SERVED,
            f"{format_address(found[0])} is not served: the Service has no {family.label} cluster "
            "IP, so nothing of that family is",
            look=("spec.ipFamilies and spec.ipFamilyPolicy of the Service",),
            about=ObjectField("Service", *service.name, field.field),
            service=str(service.name),
            family=family.label,
            brief=f"no {family.label} cluster IP for {format_address(found[0])}",
        )


def _no_source(service: Service) -> Iterator[Diagnosis]:
    """Yield that load-balancer IPs drop every client."""
    outer = (*service.load_balancer_ips, *service.router_ips)
    for family in service.families if outer else ():
        found = [address for address in outer if len(address) == family.size]
        if found and _closed(service, family):
            yield Diagnosis(
                Severity.FAIL,
                Code.SOURCE_RANGE,
                f"loadBalancerSourceRanges holds no valid {family.label} range: every client of "
                f"{format_address(found[0])} is dropped",
                look=("spec.loadBalancerSourceRanges of the Service",),
                about=ObjectField("Service", *service.name, "spec.loadBalancerSourceRanges"),
                service=str(service.name),
                family=family.label,
                brief=f"no valid {family.label} source range",
            )


def _in_pod_range(sight: Sight, service: Service) -> Iterator[Diagnosis]:
    """Yield that a cluster IP is in a range of pods; a wide clusterCIDR alone takes none."""
    ranges = sight.config.kept.pod_prefixes
    for address in service.cluster_ips if ranges else ():
        held = [prefix for prefix in ranges if address in prefix]
        if held:
            own = [one for some in (sight.config.local_pods.own or {}).values() for one in some]
            yield Diagnosis(
                Severity.WARN if any(address in prefix for prefix in own) else Severity.NOTE,
                Code.FRONTEND_SHADOWS,
                f"cluster IP {format_address(address)} is in the range of pods' addresses "
                f"{held[0]}: a pod at this address gets nothing on the Service's ports, and "
                "packets to its other ports go to the pod",
                look=("the cluster's service range and clusterCIDR must not overlap",),
                about=ObjectField("Service", *service.name, "spec.clusterIP"),
                service=str(service.name),
                brief=f"{format_address(address)} is in the range of pods",
            )


def _no_node_port_address(sight: Sight, service: Service) -> Iterator[Diagnosis]:
    """Yield that no address of this node accepts node ports in a family."""
    if not sight.has_node:
        return  # `primary` then stands for no address, and that is said once
    for family in service.families:
        if sight.config.node_port_prefixes.get(family) == ():
            yield Diagnosis(
                Severity.WARN,
                Code.NODE_PORT_OTHER_ADDRESS,
                f"no {family.label} address of this node accepts node ports (nodePortAddresses)",
                look=("nodePortAddresses of the configuration; addresses of the Node",),
                service=str(service.name),
                family=family.label,
                brief=f"no {family.label} address for node ports",
            )
