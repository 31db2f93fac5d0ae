"""
An API server to ask: the stand-in, or a real one.

NFPROXY_TEST_APISERVER names the kubeconfig of an administrator of a kube-apiserver 1.33 or
newer without controllers, whose etcd (3.5.13 or newer) was there before it started; then what
holds for any API server is tested there, by pytest in a network namespace that reaches it:

    NFPROXY_TEST_APISERVER=admin.kubeconfig nsenter --net=… python -m pytest \\
        tests/apiserver/test_standin_{lists,watches,objects}.py

What is about faults needs the stand-in.
"""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.apiserver import StandIn
from support.apiserver.client import Client
from support.apiserver.subject import Subject

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """An administrator's client of the server under test."""
    given = os.environ.get("NFPROXY_TEST_APISERVER")
    if given:
        yield Client(Path(given))
        return
    with StandIn(fresh_wait_s=0.1) as standin:
        path = tmp_path_factory.mktemp("apiserver") / "kubeconfig"
        yield Client(standin.write_kubeconfig(path, user="admin"))


@pytest.fixture
def server(client: Client) -> Iterator[Subject]:
    """A server with an empty namespace."""
    name = f"test-{os.getpid()}-{next(_numbers)}"
    if os.environ.get("NFPROXY_TEST_APISERVER"):  # the stand-in has any namespace
        client.post("/api/v1/namespaces", {"metadata": {"name": name}})
    made = Subject(client, name)
    yield made
    for resource in ("services", "endpointslices"):
        for left in made.names(resource):
            made.delete(resource, left)


@pytest.fixture
def standin() -> Iterator[StandIn]:
    """A stand-in of its own, where something is to go wrong."""
    with StandIn(fresh_wait_s=0.1) as made:
        yield made


@pytest.fixture
def admin(standin: StandIn, tmp_path: Path) -> Client:
    """An administrator's client of `standin`."""
    return Client(standin.write_kubeconfig(tmp_path / "admin", user="admin"))
