"""
The four resources that nfproxy lists and watches, with their selectors.

Source: kube-proxy 1.36, which reads the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from nfproxy.kube.identity import Kind


class Resource(msgspec.Struct, frozen=True):
    """
    A resource to list and watch.

    `group` is the API group, "" for the core group. `without` says what nfproxy cannot do while the
    API server lacks or forbids the resource; "" for a resource that it needs.
    """

    kind: Kind
    group: str
    plural: str
    path: str
    selectors: Mapping[str, str]
    without: str = ""

    @property
    def is_optional(self) -> bool:
        """Whether nfproxy works without the resource."""
        return bool(self.without)

    @property
    def full_name(self) -> str:
        """The name in commands and messages, such as ``servicecidrs.networking.k8s.io``."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


def resources(node_name: str) -> tuple[Resource, ...]:
    """Return Services, EndpointSlices, ServiceCIDRs and the Node called `node_name`, in order."""
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
            # Slices of other owners name no Service: those of an EndpointSelector, say.
            {"labelSelector": "kubernetes.io/service-name,!service.kubernetes.io/headless"},
        ),
        # ServiceCIDR is served from Kubernetes 1.33 on.
        Resource(
            Kind.SERVICE_CIDR,
            "networking.k8s.io",
            "servicecidrs",
            "/apis/networking.k8s.io/v1/servicecidrs",
            {},
            without="unallocated service addresses are not rejected",
        ),
        Resource(
            Kind.NODE,
            "",
            "nodes",
            "/api/v1/nodes",
            {"fieldSelector": name_selector(node_name)},
        ),
    )


def name_selector(name: str) -> str:
    """Return the field selector of one object, with its special characters escaped."""
    return "metadata.name=" + "".join(f"\\{c}" if c in "\\,=" else c for c in name)
