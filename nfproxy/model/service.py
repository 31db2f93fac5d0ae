"""
Services as nfproxy reads them: only the fields that decide where packets go.

Source: ``v1.Service``. All text has been parsed; see :mod:`nfproxy.kube.decode`.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

import msgspec

from nfproxy.model.addresses import Family, Prefix


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
    Who asks for a frontend, ordered by who gets it.

    Two Services may name one address and port. The older wins
    (``metadata.creationTimestamp``), then the lower namespace/name, then the
    lower port name. Compare claims with ``<``; the least wins.
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


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """
    A Service that has to be proxied.

    `created` is ``metadata.creationTimestamp`` normalised so that plain string
    comparison orders by time ("" where absent: oldest of all).
    `cluster_ips` holds at most one packed address a family (``spec.ipFamilies`` and
    ``spec.clusterIPs`` have been matched up already); a family that is absent is not
    proxied at all, external addresses included.
    `external_ips` and `load_balancer_ips` (``ipMode`` VIP) hold both families.
    `source_ranges` are disjoint; a family whose list allowed everything has none.
    `affinity_timeout_s` is None without ClientIP affinity.
    `external_local` is ``externalTrafficPolicy: Local`` where it has a meaning
    (LoadBalancer, NodePort, or ClusterIP with externalIPs); `internal_local` likewise
    ``internalTrafficPolicy``.
    `health_check_node_port` is 0 unless type LoadBalancer with `external_local`.
    """

    name: ObjectName
    created: str = ""
    cluster_ips: dict[Family, bytes]
    ports: tuple[ServicePort, ...]
    external_ips: tuple[bytes, ...] = ()
    load_balancer_ips: tuple[bytes, ...] = ()
    source_ranges: tuple[Prefix, ...] = ()
    affinity_timeout_s: int | None = None
    internal_local: bool = False
    external_local: bool = False
    health_check_node_port: int = 0
