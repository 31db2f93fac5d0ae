"""
EndpointSlices as nfproxy reads them.

Source: ``discovery.k8s.io/v1`` EndpointSlice. See :mod:`nfproxy.kube.decode`.
"""

from __future__ import annotations

import msgspec

from nfproxy.model.addresses import Family
from nfproxy.model.service import ObjectName, Protocol


class SlicePort(msgspec.Struct, frozen=True, gc=False):
    """One usable element of a slice's ``ports``: named (possibly ""), with a number."""

    name: str
    protocol: Protocol
    port: int


class Endpoint(msgspec.Struct, frozen=True, gc=False):
    """
    One element of a slice's ``endpoints``.

    `address` is packed. `ready` and `serving` are true where the API leaves them out,
    `terminating` false. `node` is None where ``nodeName`` is absent; such an endpoint
    is never local. Empty hint tuples mean "no hint".
    """

    address: bytes
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    node: str | None = None
    zone_hints: tuple[str, ...] = ()
    node_hints: tuple[str, ...] = ()


class EndpointSlice(msgspec.Struct, frozen=True):
    """The endpoints of one family of one Service, or a part of them."""

    name: ObjectName
    service: ObjectName
    family: Family
    ports: tuple[SlicePort, ...]
    endpoints: tuple[Endpoint, ...]
