"""
Which object a piece of data is, found without trusting the rest of it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from nfproxy.errors import InputError
from nfproxy.kube import names
from nfproxy.kube.decoded import Kind
from nfproxy.kube.subjects import DEFAULT_NAMESPACE
from nfproxy.model.service import ObjectName
from nfproxy.text import quoted


class Identity(msgspec.Struct, frozen=True):
    """
    An object's ``apiVersion``, ``kind``, and namespace and name as written.

    Each is "" where it is absent or no text. Nothing has been checked.
    """

    api_version: str = ""
    kind: str = ""
    namespace: str = ""
    name: str = ""

    @property
    def subject(self) -> str:
        """How messages call the object: ``Service default/web``, "" for one without kind."""
        if not self.kind:
            return ""
        known = next((kind for kind in Kind if kind.word == self.kind), None)
        if not self.name:
            return f"{quoted(self.kind)} without a name"
        if known and known.namespaced and not self.namespace:
            return f"{self.kind} {DEFAULT_NAMESPACE}/{quoted(self.name)}"
        path = f"{quoted(self.namespace)}/" if self.namespace else ""
        return f"{quoted(self.kind)} {path}{quoted(self.name)}"

    @property
    def shown_kind(self) -> str:
        """The kind, fit for a message or a metric's label; "" for an object without one."""
        return quoted(self.kind) if self.kind else ""

    def object_name(self, kind: Kind) -> ObjectName | None:
        """Return the name, None where the API would refuse it."""
        try:
            if not kind.namespaced:
                return ObjectName("", names.subdomain(self.name))
            namespace = names.label(self.namespace or DEFAULT_NAMESPACE)
            return ObjectName(namespace, names.subdomain(self.name))
        except InputError:
            return None


class _Envelope(msgspec.Struct, frozen=True):
    api_version: Any = msgspec.field(name="apiVersion", default="")
    kind: Any = ""
    metadata: Any = None


_envelope = msgspec.json.Decoder(_Envelope)


def identify(data: bytes | msgspec.Raw | Any) -> Identity:
    """
    Return the identity of JSON or of what a YAML file held. Never raises for bad input.
    """
    try:
        if isinstance(data, (bytes, msgspec.Raw)):
            envelope = _envelope.decode(data)
        else:
            envelope = msgspec.convert(data, _Envelope)
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        return Identity()
    metadata = envelope.metadata if isinstance(envelope.metadata, dict) else {}
    return Identity(
        _text(envelope.api_version),
        _text(envelope.kind),
        _text(metadata.get("namespace")),
        _text(metadata.get("name")),
    )


def _text(value: object) -> str:
    """Return text, "" for anything else."""
    return value if isinstance(value, str) else ""
