"""Manifests of Services, and what decoding makes of them."""

from __future__ import annotations

from typing import Any

from nfproxy.kube.decode import decode
from nfproxy.kube.decoded import Decoded
from nfproxy.kube.identity import Kind
from nfproxy.model.service import Service


def manifest(labels: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    """Return a Service with one port; None removes a field of the spec."""
    fields = {"clusterIP": "10.96.0.1", "ports": [{"name": "http", "port": 80}]} | spec
    return {
        "metadata": {"name": "web", "namespace": "shop", "labels": labels},
        "spec": {key: value for key, value in fields.items() if value is not None},
    }


def decoded(obj: dict[str, Any]) -> Decoded[Any]:
    return decode(Kind.SERVICE, obj, "file.yaml")


def service(obj: dict[str, Any]) -> Service:
    """Return the Service of a manifest that has nothing wrong with it."""
    result = decoded(obj)
    assert result.problems == ()
    assert isinstance(result.value, Service)
    return result.value


def fields(result: Decoded[Any]) -> list[str]:
    return [problem.field for problem in result.problems]
