"""A lab in which pods of two nodes answer, and nfproxy's commands on the first node."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.kernel.oldproxy import manifests_in
from support.processes.commands import Commands
from support.responders import Responders

from nfproxy.model.service import Protocol
from nfproxy.tools.lab import Cluster


@pytest.fixture(scope="module", autouse=True)
def own_lock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Give the programs of iptables-legacy a lock file of their own, not the machine's."""
    os.environ["XTABLES_LOCKFILE"] = str(tmp_path_factory.mktemp("lock") / "xtables.lock")
    yield
    del os.environ["XTABLES_LOCKFILE"]


@pytest.fixture
def served(namespaces_allowed: None) -> Iterator[Cluster]:
    """Two nodes with two pods each that answer, and a client."""
    with Cluster() as cluster, Responders() as responders:
        for pod in cluster.pods:
            for protocol in (Protocol.TCP, Protocol.UDP):
                responders.listen(pod, 8080, protocol)
        yield cluster


@pytest.fixture
def commands(served: Cluster, tmp_path: Path) -> Commands:
    """nfproxy's commands on node-1."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return Commands(served.nodes[0].namespace, scratch)


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    """The objects that the recorded rules of kube-proxy serve."""
    return manifests_in(tmp_path / "manifests")
