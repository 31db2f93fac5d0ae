"""An object cache with fewer words for Services."""

from __future__ import annotations

import json
from typing import Any

from nfproxy.kube.cache import CacheChange, ObjectCache
from nfproxy.kube.identity import Kind
from nfproxy.model.service import ObjectName, Service


def data(name: str = "a", version: int = 1, **metadata: Any) -> bytes:
    """Return the JSON of a Service; its version is the last byte of its cluster IP."""
    spec = {"clusterIP": f"10.0.0.{version}", "ports": [{"port": 80}]}
    return json.dumps({"metadata": {"name": name} | metadata, "spec": spec}).encode()


class Cache(ObjectCache):
    """A cache with fewer words for Services."""

    def __init__(self) -> None:
        super().__init__("n1")

    def put_service(self, data: bytes) -> CacheChange:
        return self.put(Kind.SERVICE, data)

    def remove_service(self, name: str) -> CacheChange:
        return self.remove(Kind.SERVICE, data(name))

    def versions(self) -> dict[ObjectName, int | None]:
        """Take what changed: the version of each Service, None for one that is gone."""
        return versions(self.take().services)

    @property
    def texts(self) -> list[str]:
        return [str(problem) for problem in self.problems]


def versions(services: dict[ObjectName, Service | None]) -> dict[ObjectName, int | None]:
    return {
        name: service.cluster_ips[0][3] if service else None for name, service in services.items()
    }
