"""The resources the stand-in has, and which of them a request is about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec


class Resource(msgspec.Struct, frozen=True):
    """
    One resource of one API group ("" is the core).

    `fields` are what field selectors may name beside ``metadata.name`` (and
    ``metadata.namespace``), as dotted paths. `generations`: whether ``metadata.generation``
    counts the changes outside of metadata. `created_by_put`: whether a PUT may create.
    `empty` is what an object without content holds beside metadata, as in bookmarks;
    `nullable` are lists that come back as null when they are empty.
    """

    plural: str
    group: str
    kind: str
    namespaced: bool = True
    fields: tuple[str, ...] = ()
    generations: bool = False
    created_by_put: bool = False
    empty: Mapping[str, Any] = {}
    nullable: tuple[str, ...] = ()

    @property
    def api_version(self) -> str:
        """``apiVersion`` of its objects."""
        return f"{self.group}/v1" if self.group else "v1"

    @property
    def qualified(self) -> str:
        """How messages name it: ``endpointslices.discovery.k8s.io``."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def prefix(self) -> str:
        """The path below which it is found."""
        return f"/apis/{self.group}/v1" if self.group else "/api/v1"

    def path(self, namespace: str = "", name: str = "") -> str:
        """Return the path of a list, or of an object."""
        where = f"/namespaces/{namespace}" if namespace else ""
        return f"{self.prefix}{where}/{self.plural}" + (f"/{name}" if name else "")


RESOURCES = {
    r.plural: r
    for r in (
        Resource(
            "services",
            "",
            "Service",
            fields=("spec.clusterIP", "spec.type"),
            created_by_put=True,
            empty={"spec": {}, "status": {"loadBalancer": {}}},
        ),
        Resource(
            "endpointslices",
            "discovery.k8s.io",
            "EndpointSlice",
            generations=True,
            empty={"addressType": "", "endpoints": None, "ports": None},
            nullable=("endpoints", "ports"),
        ),
        Resource(
            "nodes",
            "",
            "Node",
            namespaced=False,
            fields=("spec.unschedulable",),
            empty={"spec": {}, "status": {}},
        ),
        Resource("pods", "", "Pod", empty={"spec": {}, "status": {}}),
        Resource(
            "servicecidrs",
            "networking.k8s.io",
            "ServiceCIDR",
            namespaced=False,
            empty={"spec": {}, "status": {}},
        ),
        Resource(
            "events",
            "events.k8s.io",
            "Event",
            created_by_put=True,
            empty={"eventTime": None, "regarding": {}},
        ),
    )
}
BY_KIND = {r.kind: r for r in RESOURCES.values()}
GROUPS = tuple(dict.fromkeys(r.group for r in RESOURCES.values() if r.group))


class Target(msgspec.Struct, frozen=True):
    """
    What a request's path names.

    `resource` is "" for what is no resource (``/version``). `group` and `resource` are taken
    from the path as they are, so they may name what the server does not have.
    """

    path: str
    group: str = ""
    resource: str = ""
    namespace: str = ""
    name: str = ""
    subresource: str = ""

    @classmethod
    def parse(cls, path: str) -> Target:
        """Return what a path names."""
        parts = [part for part in path.split("/") if part]
        match parts:
            case ["api", "v1", *rest]:
                group = ""
            case ["apis", group, "v1", *rest]:
                pass
            case _:
                return cls(path)
        namespace = ""
        if rest[:1] == ["namespaces"] and len(rest) > 2:
            namespace, rest = rest[1], rest[2:]
        if not rest or len(rest) > 3:
            return cls(path)
        resource, name, subresource = [*rest, "", ""][:3]
        return cls(path, group, resource, namespace, name, subresource)

    def known(self) -> Resource | None:
        """Return the resource, if the stand-in has such a one."""
        found = RESOURCES.get(self.resource)
        if found is None or found.group != self.group:
            return None
        return found if found.namespaced or not self.namespace else None

    def verb(self, method: str, query: dict[str, str]) -> str:
        """Return the verb as authorization calls it."""
        if not self.resource:
            return method.lower()
        if method in ("GET", "HEAD"):
            if self.name:
                return "get"  # no watch: one object is watched by a field selector
            return "watch" if watching(query) else "list"
        if method == "POST":
            return "" if self.name else "create"
        names = {"PUT": "update", "PATCH": "patch"}
        return names.get(method, "delete" if self.name else "deletecollection")


def watching(query: dict[str, str]) -> bool:
    """Return whether a request is a watch."""
    return query.get("watch", "false").lower() not in ("", "0", "false")


def resource_of(item: dict[str, Any]) -> Resource:
    """Return the resource of an object that says its kind. Raises ValueError."""
    found = BY_KIND.get(str(item.get("kind")))
    if found is None:
        raise ValueError(f"no such kind: {item.get('kind')!r}; there are {', '.join(BY_KIND)}")
    return found
