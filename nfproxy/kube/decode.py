"""
One object as bytes or data → model value, without ever raising for bad input.

The functions by kind are pure and take the typed wire form; `decode` does the typing
as well. It takes JSON straight from an API server, or what a YAML file held.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import msgspec

from nfproxy.kube import wire
from nfproxy.kube.decoded import Decoded, Kind
from nfproxy.kube.identity import identify
from nfproxy.kube.node import decode_node, decode_service_cidr
from nfproxy.kube.service import decode_service
from nfproxy.kube.slice import decode_slice
from nfproxy.mismatch import UNREADABLE, mismatch
from nfproxy.model.changes import Problem
from nfproxy.model.endpoints import EndpointSlice
from nfproxy.model.node import Node, ServiceCIDR
from nfproxy.model.service import Service

__all__ = [
    "Decoded",
    "Kind",
    "Value",
    "decode",
    "decode_node",
    "decode_service",
    "decode_service_cidr",
    "decode_slice",
]

Data = bytes | msgspec.Raw | Mapping[str, Any]
Value = Service | EndpointSlice | Node | ServiceCIDR
W = TypeVar("W")


class _Way(msgspec.Struct, Generic[W], frozen=True):
    """How a kind is decoded: its wire form, and from there to the model."""

    wire_type: type[W]
    decoder: Any  # msgspec.json.Decoder[W], which is no type msgspec knows
    to_model: Callable[[W, str], Decoded[Value]]

    def __call__(self, data: Data, source_file: str) -> Decoded[Value]:
        """Return the object. Raises one of UNREADABLE."""
        if isinstance(data, (bytes, msgspec.Raw)):
            typed: W = self.decoder.decode(data)
        else:
            typed = msgspec.convert(data, self.wire_type)
        return self.to_model(typed, source_file)


def _way(wire_type: type[W], to_model: Callable[[W, str], Decoded[Value]]) -> _Way[W]:
    return _Way(wire_type, msgspec.json.Decoder(wire_type), to_model)


_WAYS: dict[Kind, _Way[Any]] = {
    Kind.SERVICE: _way(wire.Service, decode_service),
    Kind.ENDPOINT_SLICE: _way(wire.EndpointSlice, decode_slice),
    Kind.NODE: _way(wire.Node, decode_node),
    Kind.SERVICE_CIDR: _way(wire.ServiceCIDR, decode_service_cidr),
}


def decode(kind: Kind, data: Data, source_file: str = "") -> Decoded[Value]:
    """
    Return one object of a known kind.

    Never raises for bad input: data that is no such object comes back unusable, with the
    path of the field that is missing or of the wrong type, and with its name if it has
    one that the API would accept.
    """
    try:
        return _WAYS[kind](data, source_file)
    except UNREADABLE:
        identity = msgspec.structs.replace(identify(data), kind=kind.word)  # lists leave it out
        found = mismatch(data, _WAYS[kind].wire_type)
        problem = Problem(
            source_file, identity.subject, found.field, found.what, kind=identity.shown_kind
        )
        return Decoded(identity.object_name(kind), None, (problem,), usable=False)
