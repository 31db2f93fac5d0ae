"""
What ``nfproxy run`` needs of its node besides the tables: ports to serve, and sysctls.

Also the cluster's ServiceCIDRs: on a real API server they change only with a controller's help.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from support.processes.apidaemon import HEALTH_PORT, METRICS_PORT, Site
from support.processes.commands import endpoint_slice, eventually, node_object, service

WEB = "10.96.0.1:80/tcp"


@pytest.mark.parametrize("port", [HEALTH_PORT, METRICS_PORT])
def test_a_port_that_is_taken_costs_only_its_pages(site: Site, port: int) -> None:
    """
    The daemon tries again; the log says what may have the port. Rules are installed all the same.
    """
    site.api.apply(node_object(), service(), endpoint_slice("web", "10.244.1.5"))
    with site.namespace.socket(socket.AF_INET, socket.SOCK_STREAM) as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        with site.daemon() as daemon:
            site.serves({WEB: ("10.244.1.5:8080",)})
            log = daemon.wait_for("another process listens there (kube-proxy, or another nfproxy?)")
            assert f":{port}: " in log
            assert log.count("trying again every") == 1


@pytest.mark.parametrize(
    ("port", "reason"),
    [
        (HEALTH_PORT, "FailedToStartProxierHealthcheck"),
        (METRICS_PORT, "FailedToStartMetricServer"),
    ],
)
def test_a_port_that_is_taken_can_be_fatal(site: Site, port: int, reason: str) -> None:
    """With bindAddressHardFail the process ends with 1, and an Event says why."""
    site.api.apply(node_object(), service())
    with site.namespace.socket(socket.AF_INET, socket.SOCK_STREAM) as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        with site.daemon("--bind-address-hard-fail", ready=False) as daemon:
            assert daemon.wait() == 1
            assert "another process listens there" in daemon.log
    assert site.wait_for_event(reason)["type"] == "Warning"


def test_sysctls_are_written_as_configured(site: Site) -> None:
    """The timeouts of conntrack belong to the network namespace."""
    site.api.apply(node_object(), service())
    flags = ("--conntrack-tcp-timeout-established=23h", "--conntrack-udp-timeout=33s")
    with site.daemon(*flags):
        for name, value in (("tcp_timeout_established", "82800"), ("udp_timeout", "33")):
            path = Path("/proc/sys/net/netfilter") / f"nf_conntrack_{name}"
            assert site.namespace.call(path.read_text).strip() == value


def cidrs(*ranges: str) -> dict[str, Any]:
    """Return the ServiceCIDR of the cluster."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": {"name": "kubernetes"},
        "spec": {"cidrs": list(ranges)},
    }


def test_service_cidrs_change(site: Site) -> None:
    """Packets to their unallocated addresses are dropped, so the kernel must have the ranges."""
    ranges = ["10.96.0.0/16", "10.112.0.0/16"]

    def known() -> list[str]:
        listing = site.namespace.run(["nft", "list", "set", "ip", "nfproxy", "service-cidrs"])
        return [one for one in ranges if one in listing.stdout]

    site.api.apply(node_object(), cidrs(ranges[0]))
    with site.daemon():
        eventually(ranges[:1], known)
        site.api.apply(cidrs(*ranges))
        eventually(ranges, known)
        site.api.delete("servicecidrs", "", "kubernetes")
        eventually(list[str](), known)
        site.api.apply(cidrs(ranges[0]))
        eventually(ranges[:1], known)
