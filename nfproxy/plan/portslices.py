"""Which of a Service's slices have a port."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nfproxy.model.addresses import Family
from nfproxy.model.endpoints import EndpointSlice
from nfproxy.model.service import ObjectName, Protocol

#: Returns the slices of a Service that may have a port of this family, name and protocol.
SlicesOfPort = Callable[[Family, str, Protocol], Sequence[EndpointSlice]]

#: A Service whose ports, times its slices, are fewer needs no index.
_WORTH_INDEX = 1000


def slices_by_port(slices: Sequence[EndpointSlice], ports: int) -> SlicesOfPort:
    """
    Return how to find a Service's slices by port.

    A slice has up to 100 ports, so a Service of 10,000 ports has a hundred slices or more. To look
    at all ports of all slices for each port would take seconds.
    """
    if ports * len(slices) < _WORTH_INDEX:
        return lambda _family, _name, _protocol: slices
    found: dict[tuple[Family, str, Protocol], dict[ObjectName, EndpointSlice]] = {}
    for piece in slices:
        for port in piece.ports:
            found.setdefault((piece.family, port.name, port.protocol), {})[piece.name] = piece
    index = {key: tuple(pieces.values()) for key, pieces in found.items()}
    return lambda family, name, protocol: index.get((family, name, protocol), ())
