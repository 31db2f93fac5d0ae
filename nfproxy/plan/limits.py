"""
How much of the kernel one Service may have.

A Service costs its frontends, endpoints and source ranges, and its author decides how many. Beyond
a limit it gets as much as the limit, and other Services lose nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from itertools import cycle

from nfproxy.model.addresses import family_of
from nfproxy.model.endpoints import Endpoint, EndpointSlice
from nfproxy.model.nodeconfig import ServiceLimits
from nfproxy.model.service import Service, ServicePort
from nfproxy.nft.schema import port_bytes
from nfproxy.plan.frontends import FrontendKey, Limited

_PORT_SIZE = len(port_bytes(0))  # of a destination: its last field

_REMEMBERED = 4096  # ranks of addresses

# The most elements of a frontend and, in one family, of an endpoint; see `endpoint_limit`.
_MOST_OF_FRONTEND, _MOST_OF_ENDPOINT = 4, 8


def may_exceed(service: Service, endpoints: int, limits: ServiceLimits) -> bool:
    """Return whether so many endpoints of a port may be more than `endpoint_limit`, at low cost."""
    elements = _MOST_OF_ENDPOINT * len(service.cluster_ips) * len(service.ports) * endpoints
    left = limits.elements - _MOST_OF_FRONTEND * limits.frontends
    return endpoints > limits.endpoints or elements > left


def endpoint_limit(service: Service, limits: ServiceLimits) -> int:
    """Return how many endpoints a port of a Service may have in one family."""
    outside = (*service.external_ips, *service.load_balancer_ips, *service.router_ips)
    addresses = len(service.cluster_ips) + len(outside)
    is_sticky = service.affinity_timeout_s is not None
    frontends = min(limits.frontends, len(service.ports) * (addresses + 1))
    of_frontends = frontends * (1 + bool(service.source_ranges) + 2 * is_sticky)
    # Two frontends have slots of their own; more share a list. With internalTrafficPolicy Local the
    # cluster IP is not one of them, and a local endpoint is in two slot ranges of another.
    of_endpoint = 2 + service.external_local
    if service.internal_local:
        of_endpoint = 3 + 2 * service.external_local
    if is_sticky:
        of_endpoint += 3 if service.external_local or service.internal_local else 1
    lists = max(1, len(service.ports)) * max(1, len(service.cluster_ips))
    share = (limits.elements - of_frontends) // (of_endpoint * lists)
    return max(1, min(limits.endpoints, share))


def choose(destinations: Collection[bytes], most: int, node_name: str) -> Collection[bytes]:
    """
    Return `most` of the destinations, or all if they are not more.

    Each node ranks their addresses by a hash of its own (rendezvous hashing). So all nodes together
    use all of them evenly, and one that comes or goes changes the choice by one at most.
    """
    if len(destinations) <= most:
        return destinations
    node = _key(node_name)
    # The ports of a Service have the same endpoints: they are remembered where they fit.
    rank = _rank if len(destinations) <= _REMEMBERED else _rank.__wrapped__
    return sorted(destinations, key=lambda d: rank(d[:-_PORT_SIZE], node))[:most]


def _key(node_name: str) -> bytes:
    return blake2b(node_name.encode(), digest_size=16).digest()


@lru_cache(_REMEMBERED)
def _rank(address: bytes, node: bytes) -> bytes:
    return blake2b(address, digest_size=8, key=node).digest()


def bounded(
    slices: Sequence[EndpointSlice], limits: ServiceLimits, node_name: str
) -> Sequence[EndpointSlice]:
    """
    Return a Service's slices; without some of the endpoints where planning all would take seconds.

    An endpoint costs once for each port of its slice. More are left than the limits allow, as each
    takes two elements or more; this node's are, and ready ones come first. `choose` would choose
    the same, but for endpoints that are not ready.
    """
    pairs = sum([len(piece.addresses) // piece.family.size * len(piece.ports) for piece in slices])
    most = limits.elements * 2 // 3
    if pairs <= most:
        return slices  # like nearly all Services
    ready = sum([len(piece.ports) for piece in slices for _, kind in _parts(piece) if kind.ready])
    rest = max(1, pairs - ready)
    below = {
        True: _ranks_below(most / max(1, ready)),
        False: _ranks_below(max(most / pairs, (most - ready) / rest)),
    }
    return tuple(_thinned(piece, node_name, below) for piece in slices)


def _ranks_below(share: float) -> bytes:
    """Return what the ranks of a share of all addresses are below."""
    return int(2**64 * share).to_bytes(8, "big") if share < 1 else b"\xff" * 9


def _parts(piece: EndpointSlice) -> Iterator[tuple[bytes, Endpoint]]:
    size, held = piece.family.size, piece.addresses
    addresses = (held[at : at + size] for at in range(0, len(held), size))
    return zip(addresses, cycle(piece.kinds), strict=False)


def _thinned(piece: EndpointSlice, node_name: str, below: Mapping[bool, bytes]) -> EndpointSlice:
    """Return a slice with this node's endpoints, and others whose rank is below a number."""
    node = _key(node_name)
    kept = [
        (address, kind)
        for address, kind in _parts(piece)
        if kind.node == node_name or _rank(address, node) < below[kind.ready]
    ]
    return EndpointSlice.of_parts(
        *(piece.name, piece.service, piece.family, piece.ports),
        [address for address, _ in kept],
        [kind for _, kind in kept],
        piece.uid_tag,
    )


def limits_exceeded(
    service: Service,
    cluster_ip: bytes,
    limits: ServiceLimits,
    full: Iterable[ServicePort],
    frontends_cut: bool,
    ranges_cut: bool,
) -> Iterator[Limited]:
    """
    Yield what a Service has only in part, in the family of a cluster IP.

    `full` are its ports with more endpoints than the limit. Frontends and source ranges may have
    been left out, too.
    """
    family = family_of(cluster_ip)
    for port in full:
        key = FrontendKey(family, cluster_ip, port.protocol, port.port)
        what = (
            f"has more than {endpoint_limit(service, limits):,} endpoints; this node uses so many"
        )
        yield Limited(key, "spec.selector", f"{what} (serviceLimits.endpoints, .elements)")
    if not service.ports:
        return
    first = service.ports[0]
    key = FrontendKey(family, cluster_ip, first.protocol, first.port)
    if frontends_cut:
        what = f"is one of more than {limits.frontends:,} frontends; the last ones are left out"
        yield Limited(key, "spec.ports", f"{what} (serviceLimits.frontends)")
    if ranges_cut:
        what = f"has more than {limits.source_ranges:,} source ranges; the smallest are left out"
        field = "spec.loadBalancerSourceRanges"
        yield Limited(key, field, f"{what} (serviceLimits.sourceRanges)")
