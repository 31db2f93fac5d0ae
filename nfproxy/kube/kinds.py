"""
Which kinds of objects there are, and which of them nfproxy reads.
"""

from __future__ import annotations

from nfproxy.kube.decoded import Kind
from nfproxy.kube.identity import Identity
from nfproxy.text import quoted

_BUILT_IN_GROUPS = frozenset(("apps", "autoscaling", "batch", "extensions", "policy"))
_CORE_KINDS = frozenset(
    (
        *("Binding", "ComponentStatus", "ConfigMap", "Endpoints", "Event", "LimitRange"),
        *("Namespace", "PersistentVolume", "PersistentVolumeClaim", "Pod", "PodTemplate"),
        *("ReplicationController", "ResourceQuota", "Secret", "ServiceAccount", "Status"),
    )
)
_GROUP_SUFFIX = ".k8s.io"  # reserved for Kubernetes and its subprojects


def read_as(identity: Identity) -> Kind | None:
    """Return the kind an object is read as, None for one that nfproxy does not read."""
    for kind in Kind:
        if (identity.api_version, identity.kind) == kind.value:
            return kind
    return None


def objection(identity: Identity) -> str:
    """
    Return what is wrong with an object that nfproxy does not read.

    "" for the many kinds of Kubernetes that are none of its business. A kind nobody
    knows may be a custom resource or a slip of the pen; only a person can tell.
    """
    if not identity.kind or not identity.api_version:
        absent = "kind" if not identity.kind else "apiVersion"
        return f"has no {absent}, so it is no Kubernetes object; ignored"
    for kind in Kind:
        if identity.kind == kind.word:
            return (
                f"has apiVersion {quoted(identity.api_version)}, but nfproxy reads "
                f"{kind.word} of {kind.api_version}; ignored"
            )
    if _known(identity):
        return ""
    return (
        f"kind {quoted(identity.kind)} of apiVersion {quoted(identity.api_version)} is not "
        "known to nfproxy; ignored"
    )


def _known(identity: Identity) -> bool:
    """Tell whether a kind is one of Kubernetes' own."""
    group, slash, _ = identity.api_version.partition("/")
    if not slash:
        return identity.api_version == "v1" and identity.kind in _CORE_KINDS
    return group in _BUILT_IN_GROUPS or group.endswith(_GROUP_SUFFIX)
