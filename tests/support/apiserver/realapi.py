"""
A real kube-apiserver behind what tests say to the stand-in, for those that only change objects.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from support.apiserver.client import Client
from support.apiserver.resources import RESOURCES

#: Names the kubeconfig of an administrator; its server is reached from the process's own namespace.
VARIABLE = "NFPROXY_TEST_APISERVER"
_LIMIT_S = 20.0


class RealApi:
    """Creates, replaces and deletes objects. The server has no controllers that would interfere."""

    def __init__(self, kubeconfig: Path) -> None:
        self._kubeconfig = kubeconfig
        self._client = Client(kubeconfig)

    @classmethod
    def given(cls) -> RealApi | None:
        """Return the one that the environment names."""
        named = os.environ.get(VARIABLE)
        return cls(Path(named)) if named else None

    def write_kubeconfig(self, path: Path) -> Path:
        """Return the kubeconfig there is."""
        return self._kubeconfig

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """Create or replace objects, their status included."""
        for item in objects:
            self._apply(msgspec.json.decode(msgspec.json.encode(item)))

    def _apply(self, item: dict[str, Any]) -> None:
        path = _path(item["kind"], item["metadata"])
        parent = path.rpartition("/")[0]
        found = self._client.get(path)
        if found.code == 404:
            item["metadata"].pop("creationTimestamp", None)
            answer = self._client.post(parent, item)
        else:
            item["metadata"]["resourceVersion"] = found.content["metadata"]["resourceVersion"]
            answer = self._client.put(path, item)
        assert answer.code in (200, 201), f"{path}: {answer}"
        if "status" in item:
            item["metadata"]["resourceVersion"] = answer.content["metadata"]["resourceVersion"]
            answer = self._client.put(f"{path}/status", item)
            assert answer.code == 200, f"{path}/status: {answer}"

    def delete(self, resource: str, namespace: str, name: str) -> None:
        """Delete an object."""
        kind = next(kind for kind, known in _KINDS.items() if known.plural == resource)
        answer = self._client.delete(_path(kind, {"namespace": namespace, "name": name}))
        assert answer.code == 200, f"{resource} {namespace}/{name}: {answer}"

    def wait_for_watches(self, resource: str = "", count: int = 1) -> None:
        """Give the daemon, which is ready, a moment to open its watches."""
        time.sleep(1.0)


_KINDS = {resource.kind: resource for resource in RESOURCES.values()}


def _path(kind: str, metadata: Mapping[str, Any]) -> str:
    resource = _KINDS[kind]
    namespace = metadata.get("namespace") or "default" if resource.namespaced else ""
    return resource.path(namespace, metadata["name"])
