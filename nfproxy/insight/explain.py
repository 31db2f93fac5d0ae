"""
The engine at depth *objects*: from planned objects and a question to the explanation.

It plans nothing itself: :class:`~nfproxy.plan.planner.Planner` has decided, for `render`, `diff`
and the daemon alike. :mod:`nfproxy.insight.onnode` adds what the kernel of a node knows.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from nfproxy.insight.diagnosis import Code, Diagnosis, ObjectField, Severity, in_order
from nfproxy.insight.explanation import (
    Conclusion,
    ExplainedPort,
    Explanation,
    FrontendRow,
    Seen,
    together,
)
from nfproxy.insight.question import AddressQuestion, Question, ServiceQuestion
from nfproxy.insight.serviceends import with_lost_ends
from nfproxy.insight.serviceview import (
    conclusion_of,
    explained_port,
    explained_service,
    invalid_fields,
    not_proxied,
    service_causes,
)
from nfproxy.insight.sight import PortSight, Sight
from nfproxy.insight.whose import Owner, owner_of
from nfproxy.model.addresses import format_address
from nfproxy.model.service import ObjectName
from nfproxy.plan.frontends import FrontendKey, FrontendKind
from nfproxy.text import quoted, shown_name

_KINDS = {
    FrontendKind.CLUSTER_IP: "the cluster IP",
    FrontendKind.LOAD_BALANCER_IP: "a load-balancer IP",
    FrontendKind.EXTERNAL_IP: "an external IP",
    FrontendKind.NODE_PORT: "a node port",
}
_MOST_NEAR = 3


def explain(sight: Sight, question: Question, *, also: Iterable[ObjectName] = ()) -> Explanation:
    """
    Return why what is asked about works, or does not.

    `also` are further names of Services that exist, for one that does not. The caller fills in
    `seen`, but for what is known here.
    """
    if isinstance(question, ServiceQuestion):
        found = _service(sight, question, tuple(also))
    else:
        found = _address(sight, question)
    missing = []
    if not sight.has_all_services and found.ports:
        missing.append("other Services: whether another one asks for the same address")
    if not sight.has_node:
        missing.append(f"Node {shown_name(sight.config.node_name)}: zone, addresses, podCIDRs")
    if not sight.has_config:
        missing.append("the node's configuration, such as clusterCIDR: name its file with --config")
    seen = Seen(node=sight.config.node_name, missing=tuple(missing))
    return msgspec.structs.replace(found, seen=seen, findings=in_order(found.findings))


# --- a Service ---------------------------------------------------------------------------------


def _service(sight: Sight, question: ServiceQuestion, also: Sequence[ObjectName]) -> Explanation:
    name, asked = question.name, str(question)
    service = sight.planner.services.get(name)
    if service is None:
        return Explanation(asked=asked, title=asked, findings=_no_service(sight, name, also))
    ports = list(sight.ports_of(name))
    chosen = [port for port in ports if question.port in ("", *_names(port))]
    if not chosen and (question.port or not service.ports):
        causes = list(invalid_fields(sight, name))
        if question.port:
            causes.insert(0, _unknown_port(ports, name, quoted(question.port)))
        return Explanation(
            asked=asked,
            title=asked,
            service=explained_service(service, sight.details_of(name)),
            findings=tuple(causes),
        )
    return about_ports(sight, chosen, asked, asked)


def about_ports(
    sight: Sight,
    ports: Sequence[PortSight],
    asked: str,
    title: str,
    frontends: frozenset[FrontendKey] | None = None,
) -> Explanation:
    """Return the explanation of some ports of one Service; `frontends` narrows their frontends."""
    service = ports[0].service
    explained = [explained_port(port) for port in ports]
    if frontends is not None:
        explained = [_narrowed(one, frontends) for one in explained]
    explained = [with_lost_ends(one, port) for one, port in zip(explained, ports, strict=True)]
    return Explanation(
        asked=asked,
        title=title,
        conclusion=together(port.conclusion for port in explained),
        findings=tuple(service_causes(sight, service, ports)),
        service=explained_service(service, sight.details_of(service.name)),
        ports=tuple(explained),
    )


def _narrowed(port: ExplainedPort, frontends: frozenset[FrontendKey]) -> ExplainedPort:
    rows: tuple[FrontendRow, ...] = tuple(row for row in port.frontends if row.key in frontends)
    return msgspec.structs.replace(port, frontends=rows, conclusion=conclusion_of(rows))


def _names(port: PortSight) -> tuple[str, ...]:
    """Return how people may name a port: its name, number or node port."""
    number = port.port
    names = (number.name, str(number.port), str(number.node_port) if number.node_port else "")
    return tuple(filter(None, names))


def _no_service(
    sight: Sight, name: ObjectName, also: Sequence[ObjectName]
) -> tuple[Diagnosis, ...]:
    """Return why nfproxy knows no Service of a name."""
    if why := not_proxied(sight, name):
        return (why,)
    if invalid := tuple(invalid_fields(sight, name)):
        return invalid
    near = near_services(name, (*sight.planner.services, *sight.details.services, *also))
    shown = ", ".join(map(str, near))
    pods = list(_addresses_of_pod(sight, name))
    return (
        Diagnosis(
            Severity.FAIL,
            Code.UNKNOWN_SERVICE,
            f"there is no Service {name}"
            + (f"; is it {shown}?" if shown else "")
            + (f"; a pod of that name has address {pods[0]}" if pods else ""),
            look=(f"nfproxy explain {pods[0]}" if pods else "kubectl get services -A",),
            about=ObjectField("Service", *name),
            service=str(name),
            brief="no such Service",
        ),
    )


def _addresses_of_pod(sight: Sight, name: ObjectName) -> Iterator[str]:
    """Yield the addresses that slices list for a pod, which may be meant."""
    kinds = ("pod", "pods", "po")
    for piece in sight.details.slices.values():
        for address, details in piece.endpoints.items():
            space, _, pod = details.pod.partition("/")
            if pod == name.name and name.namespace in (space, *kinds):
                yield format_address(address)


def near_services(name: ObjectName, known: Iterable[ObjectName]) -> tuple[ObjectName, ...]:
    """Return at most three Services that may be meant: of this name elsewhere, or a near name."""
    names = sorted(set(known))
    same = [one for one in names if one.name == name.name]
    by_name = {one.name: one for one in names if one.namespace == name.namespace}
    alike = difflib.get_close_matches(name.name, by_name, _MOST_NEAR, cutoff=0.6)
    return tuple(dict.fromkeys((*same, *(by_name[one] for one in alike))))[:_MOST_NEAR]


def _unknown_port(ports: Sequence[PortSight], name: ObjectName, asked: str) -> Diagnosis:
    """Return that a Service has no such port, and which it has."""
    has = dict.fromkeys(
        f"{port.port.port}/{port.port.protocol.word}"
        + (f" ({port.port.name})" if port.port.name else "")
        for port in ports
    )
    return Diagnosis(
        Severity.FAIL,
        Code.UNKNOWN_PORT,
        f"{name} has no port {asked}; it has {', '.join(has)}",
        about=ObjectField("Service", *name, "spec.ports"),
        service=str(name),
        brief="no such port",
    )


# --- an address --------------------------------------------------------------------------------


def _address(sight: Sight, question: AddressQuestion) -> Explanation:
    """Return what is at an address or node port, and whether that works."""
    asked = str(question)
    owner = owner_of(sight, question)
    if owner.frontends:
        return _frontends(sight, owner, asked)
    if owner.service is not None:
        ports = list(sight.ports_of(owner.service))
        found = about_ports(sight, ports, asked, f"{asked}, {owner.what}")
        if not owner.has_frontends:
            return found
        number = quoted(str(question).rpartition(":")[2])
        cause = _unknown_port(ports, owner.service, number)
        return msgspec.structs.replace(
            found, conclusion=owner.conclusion, findings=(cause,), ports=()
        )
    if owner.pod_ports:
        return _pod(sight, owner, asked)
    causes = (owner.cause,) if owner.cause else ()
    title = f"{asked}, {owner.what}" if owner.what else asked
    return Explanation(asked=asked, title=title, conclusion=owner.conclusion, findings=causes)


def _frontends(sight: Sight, owner: Owner, asked: str) -> Explanation:
    """Return the explanation of one or more frontends; two Services only where one lost."""
    keys = frozenset(owner.frontends)
    frontend = sight.planner.desired.frontends[min(keys)]
    name = frontend.claim.service
    ports = [
        port
        for port in sight.ports_of(name)
        if any(
            key.family is port.family
            and key.protocol is port.port.protocol
            and sight.planner.desired.frontends[key].claim.port_name == port.port.name
            and sight.planner.desired.frontends[key].claim.service == name
            for key in keys
        )
    ]
    label = f"{name}:{frontend.claim.port_name}" if len(ports) == 1 else str(name)
    title = f"{asked}, {_KINDS[frontend.kind]} of {label.rstrip(':')}"
    found = about_ports(sight, ports, asked, title, keys)
    causes = found.findings if owner.cause is None else (owner.cause, *found.findings)
    if owner.cause is not None and owner.cause.level is Severity.FAIL:
        found = msgspec.structs.replace(found, conclusion=owner.conclusion)
    return msgspec.structs.replace(found, findings=causes)


def _pod_conclusion(ports: Iterable[ExplainedPort]) -> Conclusion:
    """Return whether Services send connections to a pod: all that list it, some, or none."""
    used = {any(row.used.cluster or row.used.local for row in port.endpoints) for port in ports}
    if len(used) > 1:
        return Conclusion.PARTLY
    return Conclusion.WORKS if used.pop() else Conclusion.REFUSED


def _pod(sight: Sight, owner: Owner, asked: str) -> Explanation:
    """Return which Services use a pod's address, and why others do not."""
    explained: list[ExplainedPort] = []
    findings: list[Diagnosis] = []
    for port in owner.pod_ports:
        one = explained_port(port)
        rows = tuple(row for row in one.endpoints if row.address == owner.address)
        explained.append(msgspec.structs.replace(one, frontends=(), endpoints=rows))
        if not any(row.used.cluster or row.used.local for row in rows):
            findings += service_causes(sight, port.service, [port])
    return Explanation(
        asked=asked,
        title=f"{asked}, {owner.what}",
        conclusion=_pod_conclusion(explained),
        findings=(*findings, *((owner.cause,) if owner.cause else ())),
        ports=tuple(explained),
    )
