"""
EndpointSlices as nfproxy reads them.

Source: ``discovery.k8s.io/v1`` EndpointSlice. See :mod:`nfproxy.kube.decode`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

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

    @property
    def kind(self) -> Endpoint:
        """What it is, without its address."""
        return endpoint_kind(
            *(self.ready, self.serving, self.terminating),
            *(self.node, self.zone_hints, self.node_hints),
        )


class EndpointSlice(msgspec.Struct, frozen=True, gc=False):
    """
    Endpoints of one family of one Service: all of them, or a part. Made by `of` or `of_parts`.

    There may be 100,000 endpoints. So a slice has their addresses in one piece, and in `kinds` the
    rest of each, as endpoints without an address that exist once: one for all where they are alike.
    """

    name: ObjectName
    service: ObjectName
    family: Family
    ports: tuple[SlicePort, ...]
    addresses: bytes
    kinds: tuple[Endpoint, ...]
    uid_tag: int = 0

    @classmethod
    def of(
        cls,
        name: ObjectName,
        service: ObjectName,
        family: Family,
        ports: tuple[SlicePort, ...],
        endpoints: Sequence[Endpoint],
        uid_tag: int = 0,
    ) -> EndpointSlice:
        """Return the slice of some endpoints."""
        kinds = [one.kind for one in endpoints]
        addresses = [one.address for one in endpoints]
        return cls.of_parts(name, service, family, ports, addresses, kinds, uid_tag)

    @classmethod
    def of_parts(
        cls,
        name: ObjectName,
        service: ObjectName,
        family: Family,
        ports: tuple[SlicePort, ...],
        addresses: Sequence[bytes],
        kinds: Sequence[Endpoint],
        uid_tag: int = 0,
    ) -> EndpointSlice:
        """Return the slice of endpoints with these addresses; each is of an `endpoint_kind`."""
        are_alike = kinds.count(kinds[0]) == len(kinds) if kinds else True
        held = _alone(kinds[0]) if kinds and are_alike else tuple(kinds)
        return cls(name, service, family, ports, b"".join(addresses), held, uid_tag)

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The endpoints; they are made each time that it is asked for."""
        size = self.family.size
        count = len(self.addresses) // size
        kinds = self.kinds if len(self.kinds) == count else self.kinds * count
        return tuple(
            [
                Endpoint(
                    self.addresses[at * size : (at + 1) * size],
                    *(kind.ready, kind.serving, kind.terminating),
                    *(kind.node, kind.zone_hints, kind.node_hints),
                )
                for at, kind in enumerate(kinds)
            ]
        )


@lru_cache(4096)
def endpoint_kind(
    ready: bool,
    serving: bool,
    terminating: bool,
    node: str | None,
    zone_hints: tuple[str, ...],
    node_hints: tuple[str, ...],
) -> Endpoint:
    """Return the one endpoint without an address that is otherwise like this."""
    return Endpoint(b"", ready, serving, terminating, node, zone_hints, node_hints)


@lru_cache(4096)
def _alone(kind: Endpoint) -> tuple[Endpoint]:
    """Return the one tuple of a kind alone."""
    return (kind,)
