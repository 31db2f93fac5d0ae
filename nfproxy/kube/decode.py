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
from nfproxy.kube.identity import Identity, identify
from nfproxy.kube.node import decode_node, decode_service_cidr
from nfproxy.kube.service import decode_service
from nfproxy.kube.slice import decode_slice
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
    "validation_problem",
]

Data = bytes | msgspec.Raw | Mapping[str, Any]
Value = Service | EndpointSlice | Node | ServiceCIDR
W = TypeVar("W")

# what msgspec raises for data that is not what it should be
UNREADABLE = (msgspec.MsgspecError, RecursionError, UnicodeError)


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
    except UNREADABLE as error:
        identity = msgspec.structs.replace(identify(data), kind=kind.word)  # lists leave it out
        problem = validation_problem(error, source_file, identity)
        return Decoded(identity.object_name(kind), None, (problem,), usable=False)


def validation_problem(error: Exception, source_file: str, identity: Identity) -> Problem:
    """
    Return msgspec's error as a Problem.

    Its message ends in a path, ``… - at `$.spec.ports[0].port```, which becomes the field.
    """

    def problem(field: str, what: str) -> Problem:
        return Problem(source_file, identity.subject, field, what, kind=identity.shown_kind)

    if isinstance(error, RecursionError):
        return problem("", "is nested too deeply")
    if not isinstance(error, msgspec.MsgspecError):
        return problem("", "holds text that is not UTF-8")
    message, _, path = str(error).partition(" - at ")
    path = path.replace("`", "").removeprefix("$").removeprefix(".")
    missing = message.removeprefix("Object missing required field ")
    if missing != message:
        path = ".".join(part for part in (path, missing.strip("`")) if part)
        message = "is missing"
    return problem(path, message.replace("`", ""))
