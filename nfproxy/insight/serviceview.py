"""One Service at one node: its ports, its verdict, and everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from nfproxy.insight.diagnosis import Code, Diagnosis, ObjectField, Severity
from nfproxy.insight.endpointcauses import endpoint_causes
from nfproxy.insight.endpointrows import endpoint_rows
from nfproxy.insight.explanation import (
    Conclusion,
    ExplainedPort,
    ExplainedService,
    FrontendRow,
    Reaction,
)
from nfproxy.insight.frontendrows import frontend_causes, frontend_rows
from nfproxy.insight.nodecauses import node_causes
from nfproxy.insight.serviceends import service_end_causes
from nfproxy.insight.sight import PortSight, Sight
from nfproxy.kube.details import ServiceDetails
from nfproxy.kube.identity import Kind
from nfproxy.model.changes import Problem
from nfproxy.model.service import ObjectName, Service
from nfproxy.plan.servicehealth import health_checks
from nfproxy.text import one_line, quoted, shown_name

#: Fields without which a Service, a family or a port of it is not served at all.
_VITAL = ("spec.clusterIP", "spec.ports")

_ALIKE = {
    Reaction.ENDPOINTS: Conclusion.WORKS,
    Reaction.REFUSED: Conclusion.REFUSED,
    Reaction.DROPPED: Conclusion.DROPPED,
}


def explained_port(port: PortSight) -> ExplainedPort:
    """Return a service port in one family with all its frontends and endpoints."""
    frontends = frontend_rows(port)
    return ExplainedPort(
        service=str(port.service.name),
        name=port.port.name,
        protocol=port.port.protocol.name,
        port=port.port.port,
        family=port.family.label,
        conclusion=conclusion_of(frontends),
        frontends=frontends,
        endpoints=endpoint_rows(port),
        health_check=health_status(port),
        health_check_port=port.service.health_check_node_port,
    )


def health_status(port: PortSight) -> int | None:
    """Return what the health check node port answers here, None where there is none."""
    checks = health_checks(port.service, port.slices, port.sight.config.node_name)
    check = checks.get(port.family)
    return None if check is None else (200 if check.endpoints else 503)


def conclusion_of(frontends: Iterable[FrontendRow]) -> Conclusion:
    """Return what frontends do with their clients, all kinds of them together."""
    reactions = {
        reaction
        for row in frontends
        for reaction in (row.answer.pods, row.answer.node, row.answer.outside)
    }
    if not reactions or reactions == {Reaction.ABSENT}:
        return Conclusion.UNKNOWN
    if len(reactions) == 1:
        return _ALIKE.get(reactions.pop(), Conclusion.PARTLY)
    return Conclusion.PARTLY


def explained_service(service: Service, details: ServiceDetails) -> ExplainedService:
    """Return the fields of a Service that decide."""
    return ExplainedService(
        namespace=service.name.namespace,
        name=service.name.name,
        type=details.type,
        external_traffic_policy="Local" if service.external_local else "Cluster",
        internal_traffic_policy="Local" if service.internal_local else "Cluster",
        session_affinity_seconds=service.affinity_timeout_s,
        source_ranges=tuple(map(str, service.source_ranges)),
        health_check_node_port=service.health_check_node_port,
    )


def service_causes(
    sight: Sight, service: Service, ports: Iterable[PortSight]
) -> Iterator[Diagnosis]:
    """Yield everything that is wrong with some ports of a Service, and with it as a whole."""
    for port in ports:
        yield from endpoint_causes(port)
        yield from service_end_causes(port)
    yield from frontend_causes(sight, service)
    yield from invalid_fields(sight, service.name)
    yield from awaited_balancer(sight, service.name)
    yield from node_causes(sight, service)


def awaited_balancer(sight: Sight, name: ObjectName) -> Iterator[Diagnosis]:
    """Yield that no load balancer has given a Service an address."""
    if sight.details_of(name).awaits_balancer:
        yield Diagnosis(
            Severity.NOTE,
            Code.NO_LOAD_BALANCER,
            "type is LoadBalancer, and no load balancer has given it an address "
            "(status.loadBalancer.ingress is empty)",
            look=(
                f"kubectl -n {name.namespace} describe service {name.name}; is a "
                "controller for load balancers running?",
            ),
            about=ObjectField("Service", *name, "status.loadBalancer"),
            service=str(name),
            brief="no load-balancer address yet",
        )


def invalid_fields(sight: Sight, name: ObjectName) -> Iterator[Diagnosis]:
    """Yield what could not be used of a Service and its slices."""
    for problem in sight.problems_of(Kind.SERVICE, name):
        yield _invalid(problem, Kind.SERVICE, name, name)
    for piece in sight.planner.slices_of(name):
        for problem in sight.problems_of(Kind.ENDPOINT_SLICE, piece.name):
            yield _invalid(problem, Kind.ENDPOINT_SLICE, piece.name, name)


def _invalid(problem: Problem, kind: Kind, name: ObjectName, service: ObjectName) -> Diagnosis:
    is_vital = kind is Kind.SERVICE and problem.field.startswith(_VITAL)
    text = f"{problem.field}: {problem.what}" if problem.field else problem.what
    return Diagnosis(
        Severity.FAIL if is_vital else Severity.WARN,
        Code.INVALID_FIELD,
        f"{kind.word} {name.name}: {one_line(text)}",
        look=(problem.remedy,) if problem.remedy else (),
        about=ObjectField(kind.word, *name, problem.field),
        service=str(service),
        brief=one_line(text.partition("; ")[0], 60),
    )


def not_proxied(sight: Sight, name: ObjectName) -> Diagnosis | None:
    """Return why nfproxy does not proxy a Service that exists, None where none is known."""
    details = sight.details.services.get(name)
    about = ObjectField("Service", *name)
    if details is None:
        return None
    if details.other_proxy is not None:
        return Diagnosis(
            Severity.WARN,
            Code.PROXIED_BY_OTHER,
            f"its label service.kubernetes.io/service-proxy-name is {quoted(details.other_proxy)}: "
            "another proxy serves it, and nfproxy does not",
            look=("the program of that name; or remove the label",),
            about=ObjectField("Service", *name, "metadata.labels"),
            service=str(name),
            brief=f"served by {quoted(details.other_proxy)}",
        )
    if details.type == "ExternalName":
        return Diagnosis(
            Severity.NOTE,
            Code.EXTERNAL_NAME,
            f"it is an alias of {shown_name(details.external_name)} in DNS; no connection to it "
            "passes nfproxy",
            look=(f"the cluster's DNS: nslookup {name.name}.{name.namespace}",),
            about=about,
            service=str(name),
            brief="ExternalName",
        )
    if details.is_headless:
        return Diagnosis(
            Severity.NOTE,
            Code.HEADLESS,
            "it is headless (clusterIP None): DNS gives clients the addresses of its pods, and "
            "connections to them pass nfproxy by",
            look=(f"the cluster's DNS: nslookup {name.name}.{name.namespace}",),
            about=about,
            service=str(name),
            brief="headless",
        )
    return None
