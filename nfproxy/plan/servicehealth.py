"""
What a Service's health check node port has to tell load balancers.

Source: ``spec.healthCheckNodePort`` (KEP-27): a load balancer that keeps to nodes with endpoints
(externalTrafficPolicy Local) asks each node for theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from nfproxy.model.addresses import Family
from nfproxy.model.endpoints import EndpointSlice
from nfproxy.model.service import Service
from nfproxy.plan.endpoints import candidates


class HealthCheck(NamedTuple):
    """The port to answer at, and the number of local endpoints to answer with."""

    port: int
    endpoints: int


def health_checks(
    service: Service, slices: Sequence[EndpointSlice], node_name: str
) -> dict[Family, HealthCheck]:
    """
    Return the health check of each family that a Service is proxied in; {} where it wants none.
    """
    port = service.health_check_node_port
    if not port or not service.ports:
        return {}
    return {
        family: HealthCheck(port, _local_endpoints(service, slices, family, node_name))
        for family in service.cluster_ips
    }


def _local_endpoints(
    service: Service, slices: Sequence[EndpointSlice], family: Family, node_name: str
) -> int:
    """
    Return how many addresses of this node are ready, at any port of a Service.

    Endpoints that only serve until they have terminated do not count, so that load balancers
    leave before they are gone.
    """
    addresses = {
        endpoint.address
        for port in service.ports
        for endpoint in candidates(slices, port.name, port.protocol, family).values()
        if endpoint.ready and endpoint.node == node_name
    }
    return len(addresses)
