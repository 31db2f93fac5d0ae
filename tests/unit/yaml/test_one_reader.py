"""Manifests, configuration and kubeconfig read one and the same YAML."""

from __future__ import annotations

from typing import Any

import pytest

from nfproxy.apiserver.kubeconfig import read_kubeconfig
from nfproxy.config.document import parse_document
from nfproxy.manifests.files import Text
from nfproxy.manifests.parsing import parse
from nfproxy.model.service import Service

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.96.0.1, ports: [{port: %s}]}
"""
A_STRING = "is a string, not a whole number"
A_FRACTION = "is a number with a fraction, not a whole number"


@pytest.mark.parametrize(
    ("scalar", "value", "port"),
    [
        ("8080", 8080, 8080),
        ("8_080", 8080, 8080),
        ("0o17", 15, 15),
        ("017", 15, 15),
        ("0x1F", 31, 31),
        ("0b11", 3, 3),
        ("1e3", 1000, 1000),
        ("80.0", 80, 80),
        ("80.5", 80.5, A_FRACTION),
        ("10:30", "10:30", A_STRING),
        ("2024-01-01", "2024-01-01", A_STRING),
        ("'80'", "80", A_STRING),
        ("yes", True, "is true or false, not a whole number"),
        ("N", False, "is true or false, not a whole number"),
        ("~", None, "is null, not a whole number"),
    ],
)
def test_a_scalar_means_the_same_everywhere(tmp_path, scalar, value, port):
    """The rules are those of Kubernetes' YAML library, whichever file it stands in."""
    (tmp_path / "kubeconfig").write_text(f"a: {scalar}")
    data = parse_document(f"a: {scalar}".encode(), "kp.yaml").data
    kubeconfig = read_kubeconfig(str(tmp_path / "kubeconfig"))

    assert (data["a"], type(data["a"])) == (value, type(value))
    assert (kubeconfig["a"], type(kubeconfig["a"])) == (value, type(value))
    assert manifest_port(scalar) == port


def manifest_port(scalar: str) -> Any:
    """Return a Service's port out of a manifest, or what is wrong with it."""
    text = Text((SERVICE % scalar).encode(), json=False, json_only=False)
    content = parse(text, "f.yaml", "n1")
    if content.problems:
        return content.problems[0].what
    (service,) = content.objects.values()
    assert isinstance(service, Service)
    return service.ports[0].port
