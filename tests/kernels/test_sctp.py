"""
SCTP associations of the kernel's own implementation, which the machines of other tests may lack.

tests/packets looks at the first two packets of an association, made by hand; here whole
associations are set up, used and ended through the translation. The module stays, and aborts
associations it does not know: no test with ones made by hand can come after these.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest
from support.kernel.nodeproxy import NodeProxy
from support.objects.model import changes, endpoint_slice, gone, service
from support.packets.scenes import CLUSTER_IP, CONFIG, NODE_PORT, PORT, TARGET_PORT
from support.packets.steps import families

from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.model.endpoints import EndpointSlice
from nfproxy.model.service import Protocol, Service
from nfproxy.tools.lab import Cluster, Host

TIMEOUT_S = 60.0
SILENCE_S = 2.0


def sctp_socket(host: Host, family: Family) -> socket.socket:
    """Return a socket of a host for one association at a time."""
    made = host.namespace.socket(family, socket.SOCK_STREAM, socket.IPPROTO_SCTP)
    made.settimeout(TIMEOUT_S)
    return made


@pytest.fixture(scope="module")
def cluster(namespaces_allowed: None) -> Iterator[Cluster]:
    """Two nodes with pods, and a client."""
    with Cluster() as made:
        yield made


def web() -> Service:
    """A Service over SCTP at a cluster IP and a node port."""
    return service(cluster_ips=CLUSTER_IP, port=PORT, protocol=Protocol.SCTP, node_port=NODE_PORT)


def slices(cluster: Cluster) -> list[EndpointSlice]:
    """Return the Service's endpoint in each family, a pod of the other node."""
    return [
        endpoint_slice(
            "web", cluster.pod(2, 1).address(f), port=TARGET_PORT, protocol=Protocol.SCTP
        )
        for f in FAMILIES
    ]


@pytest.fixture
def proxy(cluster: Cluster) -> Iterator[NodeProxy]:
    """The first node with the Service."""
    with NodeProxy(cluster.nodes[0], CONFIG, [web(), *slices(cluster)]) as made:
        yield made


@pytest.fixture
def server(cluster: Cluster, family: Family) -> Iterator[socket.socket]:
    """The endpoint, listening."""
    pod = cluster.pod(2, 1)
    with closing(sctp_socket(pod, family)) as listener:
        listener.bind((pod.address(family), TARGET_PORT))
        listener.listen()
        yield listener


def frontends(cluster: Cluster, family: Family) -> list[tuple[Host, str, int]]:
    """Return who asks, and where: a pod and the node at the cluster IP, who is outside."""
    node = cluster.nodes[0]
    return [
        (cluster.pod(1, 2), CLUSTER_IP.of(family), PORT),
        (node, CLUSTER_IP.of(family), PORT),
        (cluster.client, node.address(family), NODE_PORT),
    ]


def accepted(server: socket.socket) -> socket.socket:
    """Return the server's end of the next association."""
    served, _ = server.accept()
    served.settimeout(TIMEOUT_S)
    return served


def exchange(client: socket.socket, served: socket.socket) -> None:
    """Send a message either way."""
    client.sendall(b"question")
    assert served.recv(100) == b"question"
    served.sendall(b"answer")
    assert client.recv(100) == b"answer"


@families
def test_associations_are_set_up_used_and_ended(
    proxy: NodeProxy, cluster: Cluster, server: socket.socket, family: Family
) -> None:
    """From a pod, the node and outside; each end sees the other one shut down."""
    for host, address, port in frontends(cluster, family):
        with closing(sctp_socket(host, family)) as client:
            client.connect((address, port))
            with closing(accepted(server)) as served:
                exchange(client, served)
                client.close()
                assert served.recv(100) == b""


@families
def test_an_association_outlives_its_service(
    proxy: NodeProxy, cluster: Cluster, server: socket.socket, family: Family
) -> None:
    """
    The endpoint goes, an association goes on; another is set up when the endpoint is back.

    Linux takes no notice of the ICMP error that refuses a new one meanwhile, and tries again.
    """
    host, address, port = frontends(cluster, family)[0]
    with contextlib.ExitStack() as stack:
        client, late = (stack.enter_context(closing(sctp_socket(host, family))) for _ in range(2))
        client.connect((address, port))
        served = stack.enter_context(closing(accepted(server)))
        exchange(client, served)

        proxy.apply(gone(*slices(cluster)))
        exchange(client, served)
        late.setblocking(False)
        assert late.connect_ex((address, port)) == errno.EINPROGRESS
        server.settimeout(SILENCE_S)
        with pytest.raises(TimeoutError):
            server.accept()

        server.settimeout(TIMEOUT_S)
        late.settimeout(TIMEOUT_S)
        proxy.apply(changes(*slices(cluster)))
        exchange(late, stack.enter_context(closing(accepted(server))))
        exchange(client, served)
