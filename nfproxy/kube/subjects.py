"""
Which object it is: names checked, and how a message calls it.
"""

from __future__ import annotations

from collections.abc import Callable

from nfproxy.errors import InputError
from nfproxy.kube import names, wire
from nfproxy.kube.decoded import Notes
from nfproxy.model.service import ObjectName
from nfproxy.text import quoted

DEFAULT_NAMESPACE = "default"  # where kubectl puts an object that names no namespace


def namespaced_name(
    metadata: wire.Metadata, check: Callable[[str], str], notes: Notes
) -> ObjectName | None:
    """
    Return an object's checked name; None, and a note, where the API would refuse it.
    """
    field = "metadata.namespace"
    try:
        namespace = names.label(metadata.namespace or DEFAULT_NAMESPACE)
        field = "metadata.name"
        return ObjectName(namespace, check(metadata.name))
    except InputError as error:
        notes.add(field, error)
        return None


def cluster_scoped_name(metadata: wire.Metadata, notes: Notes) -> ObjectName | None:
    """Return the checked name of an object without namespace; None and a note otherwise."""
    try:
        return ObjectName("", names.subdomain(metadata.name))
    except InputError as error:
        notes.add("metadata.name", error)
        return None


def subject(kind: str, namespace: str | None, name: str) -> str:
    """
    Return how messages call a namespaced object, e.g. ``Service default/web``.

    A name with anything unusual in it is quoted and shortened: it may be hostile.
    """
    return f"{kind} {quoted(namespace or DEFAULT_NAMESPACE)}/{quoted(name)}"
