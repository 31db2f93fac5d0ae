"""
The four resources that are read, and with which selectors.

Source: kube-proxy 1.36, which reads these same ones.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from nfproxy.kube.decoded import Kind


class Resource(msgspec.Struct, frozen=True):
    """
    One thing to list and watch.

    `group` is the API group, "" for the core. Where `optional`, an API server may not have
    it (ServiceCIDR came with Kubernetes 1.33) or not allow it, and that is no fault.
    """

    kind: Kind
    group: str
    plural: str
    path: str
    selectors: Mapping[str, str]
    optional: bool = False


def resources(node_name: str) -> tuple[Resource, ...]:
    """Return what is read on a node: Services, EndpointSlices, ServiceCIDRs, its own Node."""
    return (
        Resource(
            Kind.SERVICE,
            "",
            "services",
            "/api/v1/services",
            {
                "labelSelector": "!service.kubernetes.io/service-proxy-name",
                "fieldSelector": "spec.clusterIP!=None",
            },
        ),
        Resource(
            Kind.ENDPOINT_SLICE,
            "discovery.k8s.io",
            "endpointslices",
            "/apis/discovery.k8s.io/v1/endpointslices",
            {"labelSelector": "!service.kubernetes.io/headless"},
        ),
        Resource(
            Kind.SERVICE_CIDR,
            "networking.k8s.io",
            "servicecidrs",
            "/apis/networking.k8s.io/v1/servicecidrs",
            {},
            optional=True,
        ),
        Resource(
            Kind.NODE,
            "",
            "nodes",
            "/api/v1/nodes",
            {"fieldSelector": f"metadata.name={node_name}"},
        ),
    )
