"""What an API server says of itself: health, version, groups and resources."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web
from support.apiserver.resources import GROUPS, RESOURCES, Resource
from support.apiserver.status import unknown_resource

_VERSION = {
    "major": "1",
    "minor": "36",
    "gitVersion": "v1.36.2",
    "gitTreeState": "clean",
    "platform": "linux/amd64",
}
_HEALTHY = ("/healthz", "/livez", "/readyz")


def answer(path: str, without: tuple[str, ...]) -> web.Response:
    """Return what a path that is no resource's answers. Raises StatusError."""
    there = [r for r in RESOURCES.values() if r.plural not in without]
    parts = [part for part in path.split("/") if part]
    content: Any
    match parts:
        case ["version"]:
            content = _VERSION
        case ["api"]:
            content = {"kind": "APIVersions", "versions": ["v1"]}
        case ["apis"]:
            groups = [_group(group) for group in GROUPS]
            content = {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
        case ["apis", group] if group in GROUPS:
            content = {"kind": "APIGroup", "apiVersion": "v1", **_group(group)}
        case ["api", "v1"]:
            content = _resources("v1", [r for r in there if not r.group])
        case ["apis", group, "v1"] if group in GROUPS:
            content = _resources(f"{group}/v1", [r for r in there if r.group == group])
        case _ if path in _HEALTHY:
            return web.Response(text="ok")
        case ["api", "v1", *_]:
            raise unknown_resource()
        case ["apis", group, "v1", *_] if group in GROUPS:
            raise unknown_resource()
        case _:
            return web.Response(text="404 page not found\n", status=404)
    return web.Response(body=msgspec.json.encode(content), content_type="application/json")


def _group(name: str) -> dict[str, Any]:
    version = {"groupVersion": f"{name}/v1", "version": "v1"}
    return {"name": name, "versions": [version], "preferredVersion": version}


def _resources(group_version: str, resources: list[Resource]) -> dict[str, Any]:
    listed = [
        {
            "name": r.plural,
            "singularName": r.kind.lower(),
            "namespaced": r.namespaced,
            "kind": r.kind,
            "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"],
        }
        for r in resources
    ]
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version,
        "resources": listed,
    }
