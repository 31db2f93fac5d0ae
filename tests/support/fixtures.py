"""Fixtures around the lab."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.kernel.real import RealKernel
from support.processes.apidaemon import Site, site_in
from support.processes.commands import ROOT
from support.processes.forked import running_fork_server
from support.responders import Responders

from nfproxy.host.privatenamespace import enter_private_namespace
from nfproxy.tools.lab import Cluster, Lab


@pytest.fixture(scope="session")
def namespaces_allowed() -> Iterator[None]:
    """Make sure that namespaces can be made, as root or without, and that commands start fast."""
    enter_private_namespace()
    with running_fork_server(ROOT):
        yield


@pytest.fixture(scope="module")
def lab(namespaces_allowed: None) -> Iterator[Lab]:
    """Namespaces for one module."""
    with Lab() as made:
        made.namespace("spare")  # starts the lab's thread, which is the module's then
        yield made


@pytest.fixture
def real(lab: Lab) -> Iterator[RealKernel]:
    """The kernel in a namespace without any rules."""
    namespace = lab.namespace("rules")
    kernel = RealKernel(namespace)
    yield kernel
    kernel.close()
    lab.drop(namespace)


@pytest.fixture(scope="module")
def cluster(namespaces_allowed: None) -> Iterator[Cluster]:
    """Two nodes with two pods each and a client, without any rules, for one module."""
    with Cluster() as built:
        yield built


@pytest.fixture(scope="module")
def responders(cluster: Cluster) -> Iterator[Responders]:
    """The servers of the module's cluster; none is listening yet."""
    with Responders() as made:
        yield made


@pytest.fixture
def site(namespaces_allowed: None, tmp_path: Path) -> Iterator[Site]:
    """An API server without objects in an empty namespace, and nfproxy's commands there."""
    with Lab() as lab, site_in(lab.namespace("node"), tmp_path / "site") as made:
        yield made
