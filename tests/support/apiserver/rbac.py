"""
RBAC: what roles and bindings grant.

Source: Kubernetes 1.36 pkg/registry/rbac/validation, staging/src/k8s.io/api/rbac/v1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from support.apiserver.resources import Target

_ACCOUNT = "system:serviceaccount:"


class Policy:
    """
    The grants of the ClusterRoles, Roles and bindings among some objects.

    A binding to a role that is not there grants nothing, as with the real server.
    """

    def __init__(self, objects: Iterable[Mapping[str, Any]] = ()) -> None:
        rules: dict[tuple[str, str, str], Sequence[Mapping[str, Any]]] = {}
        bindings: list[Mapping[str, Any]] = []
        for item in objects:
            metadata = item["metadata"]
            match item["kind"]:
                case "ClusterRole":
                    rules["ClusterRole", "", metadata["name"]] = item.get("rules") or ()
                case "Role":
                    key = "Role", metadata["namespace"], metadata["name"]
                    rules[key] = item.get("rules") or ()
                case "ClusterRoleBinding" | "RoleBinding":
                    bindings.append(item)
        self._grants = [
            (
                binding.get("subjects") or (),
                binding["metadata"]["namespace"] if binding["kind"] == "RoleBinding" else "",
                rules.get(_role(binding), ()),
            )
            for binding in bindings
        ]

    def allows(self, user: str, verb: str, target: Target) -> bool:
        """Return whether a user may do something."""
        groups = groups_of(user)
        return any(
            (not namespace or namespace == target.namespace)
            and any(_means(subject, user, groups, namespace) for subject in subjects)
            and any(_covers(rule, verb, target) for rule in rules)
            for subjects, namespace, rules in self._grants
        )


def groups_of(user: str) -> tuple[str, ...]:
    """Return the groups that the server's authenticators put a user into."""
    if user == "system:anonymous":
        return ("system:unauthenticated",)
    if user.startswith(_ACCOUNT):
        namespace = user.removeprefix(_ACCOUNT).partition(":")[0]
        return ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", _EVERYONE)
    return (_EVERYONE,)


_EVERYONE = "system:authenticated"


def _role(binding: Mapping[str, Any]) -> tuple[str, str, str]:
    reference = binding["roleRef"]
    namespace = binding["metadata"]["namespace"] if reference["kind"] == "Role" else ""
    return reference["kind"], namespace, reference["name"]


def _means(subject: Mapping[str, Any], user: str, groups: Sequence[str], namespace: str) -> bool:
    match subject["kind"]:
        case "User":
            return bool(subject["name"] == user)
        case "Group":
            return subject["name"] in groups
        case "ServiceAccount":
            where = subject.get("namespace") or namespace
            return user == f"{_ACCOUNT}{where}:{subject['name']}"
    return False


def _covers(rule: Mapping[str, Any], verb: str, target: Target) -> bool:
    if not _among(verb, rule.get("verbs")):
        return False
    if not target.resource:
        return any(
            target.path == url or (url.endswith("*") and target.path.startswith(url[:-1]))
            for url in rule.get("nonResourceURLs") or ()
        )
    names = rule.get("resourceNames")
    resource = f"{target.resource}/{target.subresource}".rstrip("/")
    return (
        _among(target.group, rule.get("apiGroups"))
        and _among(resource, rule.get("resources"))
        and (not names or target.name in names)
    )


def _among(one: str, many: Iterable[str] | None) -> bool:
    return any(each in ("*", one) for each in many or ())
