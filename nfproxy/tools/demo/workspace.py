"""
The demo's copy of the example manifests, and its changes to them.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Self

import msgspec
import yaml

from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.tools.lab import Pod

_SCALED = "web-endpoints.yaml"
_CROWD = "crowd.json"


class Workspace:
    """A temporary directory with `manifests` and logs. A context manager; one thread uses it."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="nfproxy-demo-"))
        self.manifests = self.path / "manifests"
        try:
            self.manifests.mkdir()
            for item in resources.files("nfproxy.tools.demo").joinpath("manifests").iterdir():
                if item.name.endswith(".yaml"):
                    (self.manifests / item.name).write_bytes(item.read_bytes())
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the directory. Idempotent."""
        shutil.rmtree(self.path, ignore_errors=True)

    def scale(self, pods: Sequence[Pod]) -> None:
        """Make these pods the endpoints of Service web."""
        path = self.manifests / _SCALED
        objects = list(yaml.safe_load_all(path.read_text("utf-8")))
        for item in objects:
            family = next(f for f in FAMILIES if f.label == item["addressType"])
            item["endpoints"] = [_endpoint(pod, family) for pod in pods]
        text = yaml.safe_dump_all(objects, sort_keys=False, default_flow_style=None)
        self._replace(_SCALED, text.encode())

    def add_crowd(self, services: int, pods: Sequence[Pod]) -> None:
        """Add many dual-stack Services, each with all of these pods as endpoints."""
        items = [part for number in range(services) for part in _service(number, pods)]
        listed = {"apiVersion": "v1", "kind": "List", "items": items}
        self._replace(_CROWD, msgspec.json.encode(listed))

    def remove_crowd(self) -> None:
        """Remove the Services that `add_crowd` added."""
        (self.manifests / _CROWD).unlink()

    def _replace(self, name: str, data: bytes) -> None:
        """Write a new file and rename it over the old one, as editors do."""
        fresh = self.manifests / f".{name}.new"
        fresh.write_bytes(data)
        fresh.rename(self.manifests / name)


def _endpoint(pod: Pod, family: Family) -> dict[str, Any]:
    return {
        "addresses": [pod.address(family)],
        "nodeName": pod.node.name,
        "conditions": {"ready": True},
    }


def _service(number: int, pods: Sequence[Pod]) -> list[dict[str, Any]]:
    """Return a Service and its two slices; cluster IPs from 10.96.100.0 and fd00:10:96::6400 on."""
    name = f"crowd-{number:04d}"
    addresses = [f"10.96.{100 + number // 256}.{number % 256}", f"fd00:10:96::{0x6400 + number:x}"]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "crowd"},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": addresses[0],
            "clusterIPs": addresses,
            "ipFamilies": [family.label for family in FAMILIES],
            "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
        },
    }
    slices = [
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": f"{name}-{family.label.lower()}",
                "namespace": "crowd",
                "labels": {"kubernetes.io/service-name": name},
            },
            "addressType": family.label,
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": [_endpoint(pod, family) for pod in pods],
        }
        for family in FAMILIES
    ]
    return [service, *slices]
