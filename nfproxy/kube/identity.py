"""
Which object a piece of data is: its kind and name, found without trusting the rest of it.

The API's rules for names are here, too. Names end up in nftables comments, logs and metrics, so
nothing that these rules refuse gets past this module.
"""

from __future__ import annotations

import enum
import re
from functools import lru_cache
from typing import Any

import msgspec

from nfproxy.errors import InputError
from nfproxy.model.service import ObjectName
from nfproxy.text import quoted, shown_name

DEFAULT_NAMESPACE = "default"  # where kubectl puts an object that names no namespace

_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)
_SUBDOMAIN = re.compile(
    r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*", re.ASCII
)
SUBDOMAIN_LIMIT = 253
_BUILT_IN_GROUPS = frozenset(("apps", "autoscaling", "batch", "extensions", "policy"))
_CORE_KINDS = frozenset(
    (
        *("Binding", "ComponentStatus", "ConfigMap", "Endpoints", "Event", "LimitRange"),
        *("Namespace", "PersistentVolume", "PersistentVolumeClaim", "Pod", "PodTemplate"),
        *("ReplicationController", "ResourceQuota", "Secret", "ServiceAccount", "Status"),
    )
)
_GROUP_SUFFIX = ".k8s.io"  # reserved for Kubernetes and its subprojects


class Kind(enum.Enum):
    """A kind of object that nfproxy reads; the value is its ``apiVersion``."""

    SERVICE = "v1", "Service"
    ENDPOINT_SLICE = "discovery.k8s.io/v1", "EndpointSlice"
    NODE = "v1", "Node"
    SERVICE_CIDR = "networking.k8s.io/v1", "ServiceCIDR"

    # There is one of each: the hash that an enum makes of the name takes twenty times as long.
    __hash__ = object.__hash__

    @property
    def api_version(self) -> str:
        """The ``apiVersion`` that objects of this kind carry."""
        return self.value[0]

    @property
    def word(self) -> str:
        """The API's word, the value of ``kind``."""
        return self.value[1]

    @property
    def namespaced(self) -> bool:
        """Whether objects of this kind live in a namespace."""
        return self in (Kind.SERVICE, Kind.ENDPOINT_SLICE)


# --- names -------------------------------------------------------------------------------------


def label(text: str) -> str:
    """
    Return `text` if it is an RFC 1123 label: a namespace, Service or port name.

    Services were RFC 1035 labels (no leading digit) up to Kubernetes 1.33. This is the wider rule
    of later versions. Raises InputError.
    """
    if not _LABEL.fullmatch(text):
        raise InputError(
            f"{quoted(text)} is not a valid name: at most 63 lower-case letters, digits "
            "and '-', with a letter or digit at both ends"
        )
    return text


def subdomain(text: str) -> str:
    """
    Return `text` if it is an RFC 1123 subdomain: the name of most objects.

    Raises InputError.
    """
    if len(text) > SUBDOMAIN_LIMIT or not _SUBDOMAIN.fullmatch(text):
        raise InputError(
            f"{quoted(text)} is not a valid name: at most {SUBDOMAIN_LIMIT} lower-case "
            "letters, digits, '-' and '.', with a letter or digit at both ends of each part"
        )
    return text


@lru_cache(4096)
def port_name(text: str) -> str:
    """Return `text` if it is a port name: empty or a label. Raises InputError."""
    return label(text) if text else text


def subject(kind: Kind, namespace: str | None, name: str) -> str:
    """
    Return how messages call an object, e.g. ``Service default/web``.

    A name with anything unusual in it is quoted and shortened: it may be hostile.
    """
    path = f"{shown_name(namespace or DEFAULT_NAMESPACE)}/" if kind.namespaced else ""
    return f"{kind.word} {path}{shown_name(name)}"


# --- identities --------------------------------------------------------------------------------


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
            return f"{shown_name(self.kind)} without a name"
        if known and known.namespaced and not self.namespace:
            return f"{self.kind} {DEFAULT_NAMESPACE}/{shown_name(self.name)}"
        path = f"{shown_name(self.namespace)}/" if self.namespace else ""
        return f"{shown_name(self.kind)} {path}{shown_name(self.name)}"

    @property
    def shown_kind(self) -> str:
        """The kind, fit for a message or a metric's label; "" for an object without one."""
        return shown_name(self.kind) if self.kind else ""

    def object_name(self, kind: Kind) -> ObjectName | None:
        """Return the name, None where the API would refuse it."""
        try:
            if not kind.namespaced:
                return ObjectName("", subdomain(self.name))
            namespace = label(self.namespace or DEFAULT_NAMESPACE)
            return ObjectName(namespace, subdomain(self.name))
        except InputError:
            return None


class _Envelope(msgspec.Struct, frozen=True):
    api_version: Any = msgspec.field(name="apiVersion", default="")
    kind: Any = ""
    metadata: Any = None


_envelope = msgspec.json.Decoder(_Envelope)


def identify(data: bytes | msgspec.Raw | Any) -> Identity:
    """Return the identity of JSON or of what a YAML file held. Never raises for bad input."""
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


# --- kinds -------------------------------------------------------------------------------------


def read_as(identity: Identity) -> Kind | None:
    """Return the kind an object is read as, None for one that nfproxy does not read."""
    for kind in Kind:
        if (identity.api_version, identity.kind) == kind.value:
            return kind
    return None


def objection(identity: Identity) -> str:
    """
    Return what is wrong with an object that nfproxy does not read.

    "" for the many other kinds of Kubernetes. An unknown kind may be a custom resource or a
    mistake: a person has to decide.
    """
    if not identity.kind or not identity.api_version:
        absent = "kind" if not identity.kind else "apiVersion"
        return f"has no {absent}, so it is no Kubernetes object; ignored"
    for kind in Kind:
        if identity.kind == kind.word:
            return (
                f"has apiVersion {shown_name(identity.api_version)}, but nfproxy reads "
                f"{kind.word} of {kind.api_version}; ignored"
            )
    if (identity.api_version, identity.kind) == ("v1", "Endpoints"):
        return (
            "kind Endpoints is not read, so its addresses get no traffic; write an EndpointSlice "
            f"of {Kind.ENDPOINT_SLICE.api_version}"
        )
    if _known(identity):
        return ""
    return (
        f"kind {shown_name(identity.kind)} of apiVersion {shown_name(identity.api_version)} is not "
        "known to nfproxy; ignored"
    )


def _known(identity: Identity) -> bool:
    """Return whether a kind is one of Kubernetes' own."""
    group, slash, _ = identity.api_version.partition("/")
    if not slash:
        return identity.api_version == "v1" and identity.kind in _CORE_KINDS
    return group in _BUILT_IN_GROUPS or group.endswith(_GROUP_SUFFIX)
