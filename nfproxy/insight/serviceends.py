"""Endpoints that are addresses of Services: packets to them are not translated a second time."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from nfproxy.insight.diagnosis import Code, Diagnosis, Severity
from nfproxy.insight.explanation import Conclusion, ExplainedPort
from nfproxy.insight.policycauses import service_field
from nfproxy.insight.sight import PortSight
from nfproxy.model.addresses import format_address
from nfproxy.nft.schema import port_of
from nfproxy.plan.endpoints import Destination
from nfproxy.plan.frontends import FrontendKey, FrontendKind

_MOST_NAMES = 3


def service_ends(port: PortSight) -> list[Destination]:
    """Return the endpoints in use that are cluster IPs, or in the range of cluster IPs."""
    used = {*port.chosen.cluster, *port.chosen.local}
    return sorted(end for end in used if _is_service(port, end))


def service_end_causes(port: PortSight) -> Iterator[Diagnosis]:
    """Yield that endpoints are addresses of Services."""
    found = service_ends(port)
    if not found:
        return
    shown = ", ".join(format_address(_address(port, end)) for end in found[:_MOST_NAMES])
    more = f" and {len(found) - _MOST_NAMES} more" if len(found) > _MOST_NAMES else ""
    yield Diagnosis(
        Severity.FAIL,
        Code.ENDPOINT_IS_SERVICE,
        f"{shown}{more}: an address of a Service, and no pod's; connections that draw it are lost",
        because=("the kernel translates a connection once, here to that address",),
        look=(
            f"kubectl -n {port.service.name.namespace} get endpointslices "
            f"-l kubernetes.io/service-name={port.service.name.name} -o yaml",
            "name the pods, or give clients the other Service by an ExternalName",
        ),
        about=service_field(port, ""),
        service=str(port.service.name),
        port=port.port.name,
        family=port.family.label,
        brief=f"endpoint {shown} is a Service's address",
    )


def with_lost_ends(explained: ExplainedPort, port: PortSight) -> ExplainedPort:
    """Return a port with the verdict that its endpoints leave."""
    lost = len(service_ends(port))
    if not lost or explained.conclusion is not Conclusion.WORKS:
        return explained
    is_all = lost == len({*port.chosen.cluster, *port.chosen.local})
    conclusion = Conclusion.DROPPED if is_all else Conclusion.PARTLY
    return msgspec.structs.replace(explained, conclusion=conclusion)


def _is_service(port: PortSight, end: Destination) -> bool:
    planner, address = port.sight.planner, _address(port, end)
    key = FrontendKey(port.family, address, port.port.protocol, port_of(end, port.family.size))
    frontend = planner.desired.frontends.get(key)
    is_cluster_ip = frontend is not None and frontend.kind is FrontendKind.CLUSTER_IP
    return is_cluster_ip or any(address in cidr for cidr in planner.service_cidrs)


def _address(port: PortSight, end: Destination) -> bytes:
    return end[: port.family.size]
