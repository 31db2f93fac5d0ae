"""The Service web and its endpoints, for tests of the reconciler."""

from __future__ import annotations

from support.kernel.memoryproxy import MemoryProxy
from support.objects.model import endpoint_slice, service

from nfproxy.model.addresses import parse_address
from nfproxy.model.endpoints import EndpointSlice
from nfproxy.model.service import Protocol
from nfproxy.nft import schema
from nfproxy.reconcile.transition import Operation

WEB = service("web")
A, B, C = "10.244.1.1", "10.244.1.2", "10.244.1.3"
TCP_SLOTS = schema.ENDPOINTS[Protocol.TCP]


def web(*addresses: str) -> EndpointSlice:
    """Return the endpoints of the Service web."""
    return endpoint_slice("web", *addresses)


def slot_key(number: int) -> bytes:
    """Return the key of a slot of its only frontend."""
    address = parse_address("10.96.0.1")
    return address + schema.port_bytes(80) + schema.number_bytes(number)


def stranger(proxy: MemoryProxy, *operations: Operation) -> None:
    """Change elements behind the reconciler's back."""
    proxy.kernel.commit(operations)
