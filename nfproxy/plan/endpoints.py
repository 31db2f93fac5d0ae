"""
Which endpoints may serve which traffic of one service port.

Sources: EndpointSlice conditions (KEP-1669 for terminating endpoints), topology hints
(KEP-2433, KEP-3015), traffic policies (KEP-2086 for the internal one).
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import cycle
from typing import overload

import msgspec

from nfproxy.model.addresses import Family
from nfproxy.model.endpoints import Endpoint, EndpointSlice
from nfproxy.model.service import Protocol
from nfproxy.nft.schema import port_bytes

#: Packed address and port of an endpoint, as the kernel's maps hold them.
Destination = bytes
Candidates = Mapping[Destination, Endpoint]


class Destinations(Sequence[Destination]):
    """
    Destinations of one length, in one piece. Made by `pack`.

    Each of them alone is an object of its own, six times as large. There may be 250,000, and twice
    that while everything changes: those that are wanted, and those that the kernel has.
    """

    __slots__ = ("_packed", "_size")

    def __init__(self, packed: bytes, size: int) -> None:
        """Take destinations of so many bytes each, at least one."""
        self._packed = packed
        self._size = size

    def __len__(self) -> int:
        return len(self._packed) // self._size

    def __iter__(self) -> Iterator[Destination]:
        packed, size = self._packed, self._size
        return iter([packed[at : at + size] for at in range(0, len(packed), size)])

    @overload
    def __getitem__(self, index: int) -> Destination: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Destination]: ...
    def __getitem__(self, index: int | slice) -> Destination | Sequence[Destination]:
        if isinstance(index, slice):
            part = range(len(self))[index]
            return self if part == range(len(self)) else pack([*self][index])
        return self._at(range(len(self))[index])

    def _at(self, index: int) -> Destination:
        return self._packed[index * self._size : (index + 1) * self._size]

    def __eq__(self, other: object) -> bool:
        """Return whether two sequences are equal, whatever holds them."""
        if isinstance(other, Destinations):
            return self._packed == other._packed
        if not isinstance(other, Sequence) or len(other) != len(self):
            return False
        return [*self] == [*other]

    def __hash__(self) -> int:
        return hash((*self,))

    def __repr__(self) -> str:
        return repr((*self,))


def pack(destinations: Iterable[Destination]) -> Sequence[Destination]:
    """Return the same sequence, for a long time: it takes as little memory as possible."""
    listed = [*destinations]
    return Destinations(b"".join(listed), len(listed[0])) if listed else ()


class Topology(enum.StrEnum):
    """Which topology hints narrowed the cluster list."""

    NONE = "none"
    NODE = "same node"
    ZONE = "same zone"


class Selection(msgspec.Struct, frozen=True):
    """
    The endpoints chosen for one service port in one family.

    `cluster` serves traffic with policy Cluster, `local` traffic with policy Local. Both are
    sorted, and () where the port has no such traffic. `exists` says whether any endpoint of the
    cluster could serve. Without one the port rejects; with one it drops what finds none here.
    `is_limited` says that there are more for `cluster` than a service port may have.
    """

    cluster: Sequence[Destination]
    local: Sequence[Destination]
    exists: bool
    topology: Topology = Topology.NONE
    is_limited: bool = False


def candidates(
    slices: Iterable[EndpointSlice], port_name: str, protocol: Protocol, family: Family
) -> dict[Destination, Endpoint]:
    """
    Return every endpoint of a service port, by destination: what it is, without its address.

    Name and protocol select a slice's port; two slices may give it different numbers. Of two
    endpoints with one address, one that does not terminate wins, then one that is ready, then the
    first. So an endpoint may move between slices, and a new pod may have the address of an old one
    that is still terminating.
    """
    found: dict[Destination, Endpoint] = {}
    for piece in slices:
        if piece.family is not family:
            continue
        for port in piece.ports:
            if port.name != port_name or port.protocol is not protocol:
                continue
            number, size, held = port_bytes(port.port), family.size, piece.addresses
            listed = [held[at : at + size] + number for at in range(0, len(held), size)]
            pairs = list(zip(listed, cycle(piece.kinds), strict=False))
            if not found and len(fresh := dict(pairs)) == len(pairs):
                found = fresh  # like nearly all slices
                continue
            for destination, endpoint in pairs:
                known = found.get(destination)
                if known is None or _rank(endpoint) > _rank(known):
                    found[destination] = endpoint
    return found


def _rank(endpoint: Endpoint) -> tuple[bool, bool]:
    return not endpoint.terminating, endpoint.ready


def usable(endpoints: Candidates) -> tuple[dict[Destination, Endpoint], bool]:
    """
    Return the endpoints for new connections, and whether they are ready.

    They are the ready endpoints. Without any, they are those that still serve while they
    terminate, so that a rollout without overlap loses no connection (KEP-1669).
    """
    ready = {d: e for d, e in endpoints.items() if e.ready}
    if ready:
        return ready, True
    return {d: e for d, e in endpoints.items() if e.serving and e.terminating}, False


def topology_of(ready: Candidates, node_name: str, zone: str) -> Topology:
    """
    Return which hints narrow a list of ready endpoints.

    Hints count only if every ready endpoint has one, and one of them names this node or zone.
    Node hints come before zone hints.
    """
    first = next(iter(ready.values()), None)
    if first is None or not (first.node_hints or first.zone_hints):
        return Topology.NONE  # like most service ports
    if all(e.node_hints for e in ready.values()) and any(
        node_name in e.node_hints for e in ready.values()
    ):
        return Topology.NODE
    if all(e.zone_hints for e in ready.values()) and any(
        zone in e.zone_hints for e in ready.values()
    ):
        return Topology.ZONE
    return Topology.NONE


def hinted(endpoint: Endpoint, topology: Topology, node_name: str, zone: str) -> bool:
    """Return whether an endpoint's hints allow this node to use it."""
    if topology is Topology.NODE:
        return node_name in endpoint.node_hints
    if topology is Topology.ZONE:
        return zone in endpoint.zone_hints
    return True


def select(
    endpoints: Candidates,
    node_name: str,
    zone: str,
    *,
    uses_cluster: bool,
    uses_local: bool,
) -> Selection:
    """
    Return the lists of endpoints of one service port.

    `uses_cluster` and `uses_local` say which kinds of traffic the port has. Hints narrow only the
    cluster list, and only while it has ready endpoints.
    """
    serving, ready = usable(endpoints)
    if not serving:
        return Selection((), (), exists=False)
    topology = Topology.NONE
    cluster: Iterable[Destination] = ()
    if uses_cluster:
        cluster = serving
        if ready:
            topology = topology_of(serving, node_name, zone)
            if topology is not Topology.NONE:
                cluster = (d for d, e in serving.items() if hinted(e, topology, node_name, zone))
    local: Iterable[Destination] = ()
    if uses_local:
        local, _ = usable({d: e for d, e in endpoints.items() if e.node == node_name})
    return Selection(pack(sorted(cluster)), pack(sorted(local)), exists=True, topology=topology)


def left_out(
    endpoints: Candidates, selection: Selection, node_name: str, *, local: bool
) -> dict[Destination, str]:
    """Return for each endpoint that is not on a list (`local`, or else `cluster`) why it is not."""
    chosen = set(selection.local if local else selection.cluster)
    pool = {d: e for d, e in endpoints.items() if e.node == node_name} if local else dict(endpoints)
    _, ready = usable(pool)
    return {
        d: _reason(e, node_name, selection, local=local, ready=ready)
        for d, e in endpoints.items()
        if d not in chosen
    }


def state_of(endpoint: Endpoint) -> str:
    """Return an endpoint's state in one word or two."""
    if endpoint.terminating:
        return "terminating, serving" if endpoint.serving else "terminating"
    return "ready" if endpoint.ready else "not ready"


def _reason(
    endpoint: Endpoint, node_name: str, selection: Selection, *, local: bool, ready: bool
) -> str:
    if local and endpoint.node != node_name:
        return "not on this node" if endpoint.node is not None else "has no nodeName"
    if not endpoint.ready:
        if endpoint.terminating and endpoint.serving and ready:
            return "terminating, and others are ready"
        if endpoint.terminating:
            return "terminating and no longer serving"
        return "not ready"
    topology = selection.topology
    if topology is Topology.NODE and node_name not in endpoint.node_hints:
        return "hinted for other nodes"
    if topology is Topology.ZONE and not selection.is_limited:
        return "hinted for other zones"
    if selection.is_limited:
        return "beyond the limit of endpoints"
    return "this service port has no such traffic"
