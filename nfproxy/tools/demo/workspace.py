"""The demo's copy of the example manifests, and its changes to them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml

from nfproxy.model.addresses import FAMILIES
from nfproxy.tools.lab import Pod

_SERVICE, _SCALED = "web.yaml", "web-endpoints.yaml"
_CROWD = "crowd.json"


class Workspace:
    """A directory with `manifests` and logs. One thread uses it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifests = path / "manifests"
        shutil.copytree(Path(__file__).with_name("manifests"), self.manifests)

    def scale(self, pods: Sequence[Pod]) -> None:
        """Make these pods the endpoints of Service web."""
        objects = self._objects(_SCALED)
        for item in objects:
            family = next(f for f in FAMILIES if f.label == item["addressType"])
            item["endpoints"] = [
                {
                    "addresses": [pod.address(family)],
                    "nodeName": pod.node.name,
                    "conditions": {"ready": True},
                }
                for pod in pods
            ]
        text = yaml.safe_dump_all(objects, sort_keys=False, default_flow_style=None)
        self._replace(_SCALED, text.encode())

    def add_crowd(self, services: int) -> None:
        """
        Add many Services like web, with the endpoints that it has now.

        Their cluster IPs are those from 10.96.100.0 and fd00:10:96::6400 on.
        """
        (web,), slices = self._objects(_SERVICE), self._objects(_SCALED)
        items = []
        for number in range(services):
            metadata = {"name": f"crowd-{number:04d}", "namespace": "crowd"}
            ipv4 = f"10.96.{100 + number // 256}.{number % 256}"
            ipv6 = f"fd00:10:96::{0x6400 + number:x}"
            spec = web["spec"] | {"clusterIP": ipv4, "clusterIPs": [ipv4, ipv6]}
            items.append(web | {"metadata": metadata, "spec": spec})
            labels = {"kubernetes.io/service-name": metadata["name"]}
            for one in slices:
                name = f"{metadata['name']}-{one['addressType'].lower()}"
                items.append(one | {"metadata": metadata | {"name": name, "labels": labels}})
        listed = {"apiVersion": "v1", "kind": "List", "items": items}
        self._replace(_CROWD, msgspec.json.encode(listed))

    def remove_crowd(self) -> None:
        """Remove the Services that `add_crowd` added."""
        (self.manifests / _CROWD).unlink()

    def _objects(self, name: str) -> list[dict[str, Any]]:
        return list(yaml.safe_load_all((self.manifests / name).read_text("utf-8")))

    def _replace(self, name: str, data: bytes) -> None:
        """Write a new file and rename it over the old one, as editors do."""
        fresh = self.manifests / f".{name}.new"
        fresh.write_bytes(data)
        fresh.rename(self.manifests / name)
