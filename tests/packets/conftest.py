"""
Who answers in the tests of packets: fixtures for modules with a cluster, and with a scene.

A module that needs more of a fixture than is here defines one with its name that asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.kernel import rules
from support.packets.scenes import Scene, bridge_scene, routed_scene
from support.packets.steps import ENDPOINT_PORT, Crowd, crowd
from support.responders import Responders

from nfproxy.model.service import Protocol
from nfproxy.tools.lab import Cluster


@pytest.fixture(scope="module")
def served(cluster: Cluster, responders: Responders) -> Cluster:
    """The cluster, with every pod answering at ENDPOINT_PORT over every protocol."""
    for pod in cluster.pods:
        for protocol in Protocol:
            responders.listen(pod, ENDPOINT_PORT, protocol)
    return cluster


@pytest.fixture(scope="module")
def clients(served: Cluster) -> Crowd:
    """Thirty-two clients outside the cluster, each with an address of its own."""
    return crowd(served)


@pytest.fixture
def flushed(served: Cluster) -> Iterator[None]:
    """Remove all rules of the first node after the test."""
    yield
    rules.flush(served.nodes[0])


@pytest.fixture(scope="module")
def scene(namespaces_allowed: None) -> Iterator[Scene]:
    """A lab in which each pod has an interface of its own on its node."""
    with routed_scene() as made:
        yield made


@pytest.fixture(scope="module")
def scenes(namespaces_allowed: None) -> Iterator[dict[str, Scene]]:
    """Two labs: one with an interface for each pod, one with a bridge for all pods of a node."""
    with routed_scene() as routed, bridge_scene() as bridge:
        yield {"routed": routed, "bridge": bridge}
