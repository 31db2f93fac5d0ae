"""
Decode one object: from JSON of an API server, or the data of a YAML file, to a model value.

Bad input raises nothing: the result says what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import msgspec

from nfproxy.kube import wire
from nfproxy.kube.decoded import Decoded
from nfproxy.kube.identity import Kind, identify
from nfproxy.kube.node import decode_node, decode_service_cidr
from nfproxy.kube.service import decode_service
from nfproxy.kube.slice import decode_slice
from nfproxy.mismatch import UNREADABLE, mismatch
from nfproxy.model.changes import Problem
from nfproxy.model.endpoints import EndpointSlice
from nfproxy.model.node import Node, ServiceCIDR
from nfproxy.model.service import Service

Data = bytes | msgspec.Raw | Mapping[str, Any]
Value = Service | EndpointSlice | Node | ServiceCIDR
W = TypeVar("W")


class _Form(msgspec.Struct, Generic[W], frozen=True):
    """A kind's wire form, and how it becomes a value of the model."""

    wire_type: type[W]
    decoder: Any  # msgspec.json.Decoder[W], which is no type msgspec knows
    to_model: Callable[[W, str], Decoded[Value]]


def _form(wire_type: type[W], to_model: Callable[[W, str], Decoded[Value]]) -> _Form[W]:
    return _Form(wire_type, msgspec.json.Decoder(wire_type), to_model)


_FORMS: dict[Kind, _Form[Any]] = {
    Kind.SERVICE: _form(wire.ServiceForm, decode_service),
    Kind.ENDPOINT_SLICE: _form(wire.EndpointSliceForm, decode_slice),
    Kind.NODE: _form(wire.NodeForm, decode_node),
    Kind.SERVICE_CIDR: _form(wire.ServiceCIDRForm, decode_service_cidr),
}


def decode(kind: Kind, data: Data, source_file: str = "") -> Decoded[Value]:
    """
    Return one object of a known kind.

    Data that is no such object comes back unusable, with the path of the first field that is
    missing or of the wrong type, and with its name if the API would accept it.
    """
    form = _FORMS[kind]
    try:
        if isinstance(data, (bytes, msgspec.Raw)):
            typed = form.decoder.decode(data)
        else:
            typed = msgspec.convert(data, form.wire_type)
        decoded = form.to_model(typed, source_file)
        version = typed.metadata.resource_version
        if isinstance(version, str):
            decoded.version = version
        return decoded
    except UNREADABLE:
        # Only now: on the good path the data is walked once.
        identity = msgspec.structs.replace(identify(data), kind=kind.word)  # lists leave it out
        found = mismatch(data, form.wire_type)
        problem = Problem(
            source_file, identity.subject, found.field, found.what, kind=identity.shown_kind
        )
        return Decoded(identity.object_name(kind), None, (problem,), usable=False)
