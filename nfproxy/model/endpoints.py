"""
EndpointSlices as nfproxy reads them.

Source: ``discovery.k8s.io/v1`` EndpointSlice. See :mod:`nfproxy.kube.decode`.
"""

from __future__ import annotations

import msgspec

from nfproxy.model.addresses import Family
from nfproxy.model.service import ObjectName, Protocol


class SlicePort(msgspec.Struct, frozen=True, gc=False):
    """One usable element of a slice's ``ports``; `name` may be ""."""

    name: str
    protocol: Protocol
    port: int


class Endpoint(msgspec.Struct, frozen=True, gc=False):
    """
    One element of a slice's ``endpoints``.

    `address` is packed. Where the API leaves them out, `ready` and `serving` are true and
    `terminating` is false. `node` is None without ``nodeName``; such an endpoint is never local.
    Empty hints mean that there are none.
    """

    address: bytes
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    node: str | None = None
    zone_hints: tuple[str, ...] = ()
    node_hints: tuple[str, ...] = ()


class EndpointSlice(msgspec.Struct, frozen=True, gc=False):
    """Endpoints of one family of one Service: all of them, or a part."""

    name: ObjectName
    service: ObjectName
    family: Family
    ports: tuple[SlicePort, ...]
    endpoints: tuple[Endpoint, ...]
    uid_tag: int = 0
