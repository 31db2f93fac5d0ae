"""
What a Service's health check node port answers to load balancers.

Source: ``spec.healthCheckNodePort`` (KEP-27). With externalTrafficPolicy Local a load balancer uses
only nodes with endpoints of the Service, and asks each node for their number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from nfproxy.model.addresses import Family
from nfproxy.model.endpoints import EndpointSlice
from nfproxy.model.service import ObjectName, Service
from nfproxy.plan.endpoints import candidates
from nfproxy.plan.portslices import slices_by_port


class HealthCheck(NamedTuple):
    """
    The port to listen on, and the number of local endpoints to answer with.

    `node_port_of` is the Service whose node port it is, too: connections go there, not to us.
    """

    port: int
    endpoints: int
    node_port_of: ObjectName | None = None


def health_checks(
    service: Service, slices: Sequence[EndpointSlice], node_name: str
) -> dict[Family, HealthCheck]:
    """Return the health check for each of a Service's families; {} where it asks for none."""
    port = service.health_check_node_port
    if not port or not service.ports:
        return {}
    return {
        family: HealthCheck(port, _local_endpoints(service, slices, family, node_name))
        for family in service.families
    }


def _local_endpoints(
    service: Service, slices: Sequence[EndpointSlice], family: Family, node_name: str
) -> int:
    """
    Return how many endpoint addresses of this node are ready, at any port of a Service.

    Terminating endpoints do not count, so that load balancers leave before the endpoints are gone.
    """
    slices_of = slices_by_port(slices, len(service.ports))
    addresses = {
        destination[: family.size]
        for port in service.ports
        for destination, endpoint in candidates(
            slices_of(family, port.name, port.protocol), port.name, port.protocol, family
        ).items()
        if endpoint.ready and endpoint.node == node_name
    }
    return len(addresses)
