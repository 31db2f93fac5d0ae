"""``/metrics/services``: real connections, counted by the kernel, per service port."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from support.processes.apidaemon import METRICS_PORT, Site
from support.processes.commands import endpoint_slice, node_object, service

PODS = ("10.244.1.5", "10.244.1.6")
POD_V6 = "fd00:10:244:1::5"
TCP = {"protocol": "TCP"}
DUAL = {"clusterIPs": ["10.96.0.1", "fd00:10:96::1"], "ipFamilies": ["IPv4", "IPv6"]}
WEB_PORT = {"name": "http", "port": 80, "nodePort": 30080, **TCP}
DNS_PORT = {"name": "dns", "port": 53, "protocol": "UDP"}


def objects(*pods: str) -> list[dict[str, Any]]:
    """Return a Node, a Service in both families with a node port, and one that has UDP."""
    named = [{"name": "http", "port": 8080, **TCP}]
    return [
        node_object(),
        service("web", type="NodePort", ports=[WEB_PORT], **DUAL),
        endpoint_slice("web", *pods, ports=named),
        endpoint_slice("web", POD_V6, ports=named),
        service("dns", "10.96.0.10", ports=[DNS_PORT]),
        endpoint_slice("dns", PODS[0], ports=[{"name": "dns", "port": 5353, "protocol": "UDP"}]),
    ]


@pytest.fixture
def node(site: Site) -> Iterator[Site]:
    """A node that has the pods' addresses, with servers, the daemon, and a first reading."""
    run = site.namespace.run
    run(["ip", "link", "add", "eth0", "type", "bridge"])
    run(["ip", "link", "set", "eth0", "up"])
    for address in ("192.168.77.11/24", *(f"{pod}/32" for pod in PODS)):
        run(["ip", "address", "add", address, "dev", "eth0"])
    run(["ip", "address", "add", f"{POD_V6}/128", "dev", "eth0", "nodad"])
    run(["ip", "-6", "route", "add", "fd00:10:96::/112", "dev", "eth0"])
    run(["ip", "route", "add", "10.96.0.0/16", "dev", "eth0"])
    servers = [listening(site, pod) for pod in (*PODS, POD_V6)]
    servers.append(site.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM))
    servers[-1].bind((PODS[0], 5353))
    site.api.apply(*objects(PODS[0]))
    with site.daemon():
        assert totals(site) == {}
        yield site
    for server in servers:
        server.close()


def listening(site: Site, address: str) -> socket.socket:
    """Listen at port 8080 of a pod."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    server = site.namespace.socket(family, socket.SOCK_STREAM)
    server.bind((address, 8080))
    server.listen()
    return server


def connect(site: Site, address: str, port: int, times: int = 1) -> None:
    """Open connections from the node, and close them."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for _ in range(times):
        with site.namespace.socket(family, socket.SOCK_STREAM) as client:
            client.settimeout(10)
            client.connect((address, port))


def totals(site: Site) -> dict[str, float]:
    """Return the samples of the page by their label values."""
    page = site.page(METRICS_PORT, "/metrics/services")
    assert page.code == 200
    samples = [line for line in page.body.splitlines() if not line.startswith("#")]
    found = {}
    for sample in samples:
        labels, _, value = sample.removeprefix("nfproxy_service_connections_total").partition(" ")
        found["/".join(labels.split('"')[1::2])] = float(value)
    return found


def test_each_connection_counts_once(node: Site) -> None:
    """By cluster IP in both families and by node port; a UDP flow counts like a connection."""
    connect(node, "10.96.0.1", 80, times=5)
    connect(node, "fd00:10:96::1", 80, times=2)
    connect(node, "192.168.77.11", 30080)
    with node.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as flow:
        flow.connect(("10.96.0.10", 53))
        for _ in range(3):
            flow.send(b"?")

    assert totals(node) == {"default/web/http/TCP": 8, "default/dns/dns/UDP": 1}


def test_totals_continue_when_the_number_of_endpoints_changes(node: Site) -> None:
    """The kernel then has a new element, whose counter begins at 0."""
    connect(node, "10.96.0.1", 80, times=2)
    assert totals(node) == {"default/web/http/TCP": 2}
    connect(node, "10.96.0.1", 80, times=3)
    connect(node, "192.168.77.11", 30080)
    node.api.apply(*objects(*PODS))
    node.serves(
        {
            "10.96.0.1:80/tcp": tuple(f"{pod}:8080" for pod in PODS),
            "[fd00:10:96::1]:80/tcp": (f"{POD_V6}:8080",),
            "node port 30080/tcp (IPv4)": tuple(f"{pod}:8080" for pod in PODS),
            "node port 30080/tcp (IPv6)": (f"{POD_V6}:8080",),
            "10.96.0.10:53/udp": (f"{PODS[0]}:5353",),
        }
    )
    connect(node, "10.96.0.1", 80, times=3)

    assert totals(node) == {"default/web/http/TCP": 9}


def test_the_other_metrics_do_not_include_it(node: Site) -> None:
    """A scrape of /metrics does not get thousands of series."""
    connect(node, "10.96.0.1", 80)

    assert "service_connections" not in node.page(METRICS_PORT, "/metrics").body
