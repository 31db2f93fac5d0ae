"""
Services as nfproxy reads them: only the fields that decide where packets go.

Source: ``v1.Service``. :mod:`nfproxy.kube.decode` parses and checks them.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

import msgspec

from nfproxy.model.addresses import Family, Prefix, family_of


class Protocol(enum.IntEnum):
    """A transport protocol; the value is its IP protocol number."""

    TCP = 6
    UDP = 17
    SCTP = 132

    @property
    def word(self) -> str:
        """The protocol's word in nft syntax."""
        return self.name.lower()


class ObjectName(NamedTuple):
    """Namespace and name of an API object. Both are validated DNS names."""

    namespace: str
    name: str

    def __str__(self) -> str:
        """Return ``namespace/name``, the form people use."""
        return f"{self.namespace}/{self.name}"


class Claim(NamedTuple):
    """
    The service port that asks for a frontend. Of two claims the lesser gets the frontend.

    Two Services may name one address and port. The older Service gets it
    (``metadata.creationTimestamp``), then the lower namespace/name, then the lower port name. A
    cluster IP comes before all that (:attr:`nfproxy.plan.frontends.Frontend.precedence`).
    """

    created: str
    service: ObjectName
    port_name: str


class ServicePort(msgspec.Struct, frozen=True, gc=False):
    """One element of ``spec.ports``. ``node_port`` 0 means none."""

    name: str
    protocol: Protocol
    port: int
    node_port: int = 0


class Service(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """
    A Service that nfproxy proxies.

    `created` is ``metadata.creationTimestamp`` in a form that sorts by time ("" where absent: the
    oldest of all). `cluster_ips` has at most one packed address of each family. A family without
    one is not proxied, external addresses included. `external_ips` and `load_balancer_ips`
    (``ipMode`` VIP) are of both families, and so are `router_ips` (``ipMode`` Router, KEP-6272).
    `source_ranges` are disjoint; a family that allows all
    sources has none. `affinity_timeout_s` is None without ClientIP affinity. `external_local` is
    ``externalTrafficPolicy: Local`` where it has a meaning (LoadBalancer, NodePort, or ClusterIP
    with externalIPs), `internal_local` is ``internalTrafficPolicy: Local``.
    `health_check_node_port` is 0 unless the type is LoadBalancer with `external_local`. By
    `uid_tag` two Services of one name differ, as all objects here do; 0 where that is unknown.
    """

    name: ObjectName
    created: str = ""
    cluster_ips: tuple[bytes, ...]
    ports: tuple[ServicePort, ...]
    external_ips: tuple[bytes, ...] = ()
    load_balancer_ips: tuple[bytes, ...] = ()
    router_ips: tuple[bytes, ...] = ()
    source_ranges: tuple[Prefix, ...] = ()
    affinity_timeout_s: int | None = None
    internal_local: bool = False
    external_local: bool = False
    health_check_node_port: int = 0
    uid_tag: int = 0

    @property
    def families(self) -> tuple[Family, ...]:
        """The families that are proxied, in the order of their cluster IPs."""
        return tuple(family_of(address) for address in self.cluster_ips)

    def cluster_ip(self, family: Family) -> bytes | None:
        """Return the cluster IP of a family; None where it is not proxied."""
        for address in self.cluster_ips:
            if len(address) == family.size:
                return address
        return None
