"""
``nfproxy run`` on a host whose IPv6 is switched on or off while it runs.

An administrator or an address daemon writes the sysctl at any time; some switch IPv6 off and on
again to remove all addresses.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest
from support.processes.apidaemon import HEALTH_PORT, Site
from support.processes.commands import endpoint_slice, eventually, node_object, service

from nfproxy.tools.lab import Namespace

V6_NODE, CLUSTER_IP, POD = "fd77::11", "fd00:10:96::1", "fd00:10:244:1::9"
NODE_PORT, CHECK_PORT = 30080, 32100


def switch(site: Site, *, on: bool) -> None:
    """Switch IPv6 on or off; when it comes on the node gets its addresses."""
    site.namespace.set_sysctls({"ipv6/conf/all/disable_ipv6": "0" if on else "1"})
    if on:
        for address in (f"{V6_NODE}/64", f"{POD}/128"):
            site.namespace.run(["ip", "address", "replace", address, "dev", "lo", "nodad"])
        site.namespace.run(["ip", "route", "replace", f"{CLUSTER_IP}/128", "dev", "lo"])


@contextlib.contextmanager
def answering(namespace: Namespace) -> Iterator[None]:
    """Let a process answer at port 8080 of the pod's address."""
    with namespace.socket(socket.AF_INET6, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((POD, 8080))
        listener.listen()

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    listener.accept()[0].close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def connects(site: Site, address: str, port: int) -> bool:
    """Return whether a process of the node is served there."""
    with site.namespace.socket(socket.AF_INET6, socket.SOCK_STREAM) as client:
        client.settimeout(2)
        try:
            client.connect((address, port))
        except OSError:
            return False
        return client.recv(1) == b""


def serves_ipv6(site: Site) -> list[bool]:
    """Return whether cluster IP, node port and health check node port answer over IPv6."""
    try:
        health = site.code("/", CHECK_PORT, V6_NODE) == 200
    except OSError:
        health = False
    return [connects(site, CLUSTER_IP, 80), connects(site, V6_NODE, NODE_PORT), health]


@pytest.fixture
def dual(site: Site) -> Site:
    """A node and a Service of both families."""
    node = node_object()
    node["status"]["addresses"] = [
        {"type": "InternalIP", "address": "192.168.77.11"},
        {"type": "InternalIP", "address": V6_NODE},
    ]
    site.namespace.run(["ip", "address", "replace", "192.168.77.11/24", "dev", "lo"])
    web = service(
        "web",
        type="LoadBalancer",
        clusterIPs=["10.96.0.1", CLUSTER_IP],
        ipFamilies=["IPv4", "IPv6"],
        externalTrafficPolicy="Local",
        healthCheckNodePort=CHECK_PORT,
        ports=[{"port": 80, "nodePort": NODE_PORT}],
    )
    pods = endpoint_slice("web", POD, name="web-six")
    pods["endpoints"][0]["nodeName"] = "node-1"
    site.api.apply(node, web, endpoint_slice("web", "10.244.1.5"), pods)
    return site


def test_ipv6_that_comes_later_is_served(dual: Site) -> None:
    """Without a restart: cluster IPs, node ports, health check node ports."""
    switch(dual, on=False)
    with dual.daemon() as daemon:
        assert dual.commands.tables() == ["ip nfproxy", "ip6 nfproxy"]
        daemon.wait_for("no interface of this host has an address in fd77::11")
        eventually(1.0, lambda: dual.metric("nfproxy_node_ports_unreachable", ip_family="IPv6"))
        assert dual.code("/healthz") == 200
        switch(dual, on=True)
        with answering(dual.namespace):
            eventually([True, True, True], lambda: serves_ipv6(dual))
        daemon.wait_for("IPv6 node ports are served again")
        assert dual.code("/healthz", HEALTH_PORT, V6_NODE) == 200
        assert dual.diff().code == 0
        assert daemon.alive


def test_ipv6_that_goes_for_a_while_is_served_again(dual: Site) -> None:
    """Changes that come in meanwhile are in force afterwards; IPv4 goes on all the time."""
    switch(dual, on=True)
    with dual.daemon() as daemon:
        with answering(dual.namespace):
            eventually([True, True, True], lambda: serves_ipv6(dual))
        switch(dual, on=False)
        daemon.wait_for("no interface of this host has an address in fd77::11")
        assert dual.diff().code == 0
        dual.api.apply(service("late", "10.96.0.5"), endpoint_slice("late", "10.244.1.7"))
        eventually(
            ("10.244.1.7:8080",), lambda: dual.commands.frontends().get("10.96.0.5:80/tcp", ())
        )
        assert dual.code("/healthz") == 200
        switch(dual, on=True)
        with answering(dual.namespace):
            eventually([True, True, True], lambda: serves_ipv6(dual))
        assert "Traceback" not in daemon.log
        assert dual.diff().code == 0
