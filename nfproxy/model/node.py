"""
This node, as the Node object describes it.

Source: ``v1.Node``.
"""

from __future__ import annotations

import msgspec

from nfproxy.model.addresses import Family, Prefix, family_of


class Node(msgspec.Struct, frozen=True):
    """
    What nfproxy uses of the Node object.

    `addresses` are packed: all InternalIPs in order, then all ExternalIPs.
    `zone` is the label ``topology.kubernetes.io/zone``, "" where absent.
    `pod_cidrs` is ``spec.podCIDRs``. `leaving` says that the Node is being deleted, or that the
    cluster autoscaler is going to delete it (taint ``ToBeDeletedByClusterAutoscaler``, KEP-3836):
    load balancers should send no new connections there.
    """

    name: str
    addresses: tuple[bytes, ...] = ()
    zone: str = ""
    pod_cidrs: tuple[Prefix, ...] = ()
    leaving: bool = False
    uid_tag: int = 0

    def address(self, family: Family) -> bytes | None:
        """Return the node IP of a family: the first of that family in `addresses`."""
        return next((a for a in self.addresses if family_of(a) is family), None)


class ServiceCIDR(msgspec.Struct, frozen=True):
    """A ``networking.k8s.io/v1`` ServiceCIDR: name and ``spec.cidrs``."""

    name: str
    cidrs: tuple[Prefix, ...]
    uid_tag: int = 0
