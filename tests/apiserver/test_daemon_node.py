"""
What ``nfproxy run`` needs of its node besides the tables: ports to answer at, and sysctls.
"""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from support.apidaemon import HEALTH_PORT, METRICS_PORT, Site
from support.commands import endpoint_slice, node_object, service

WEB = "10.96.0.1:80/tcp"


@pytest.mark.parametrize("port", [HEALTH_PORT, METRICS_PORT])
def test_a_port_that_is_taken_costs_only_its_pages(site: Site, port: int) -> None:
    """
    It is tried again and again; the log says who may have it. Programming goes on.
    """
    site.api.apply(node_object(), service(), endpoint_slice("web", "10.244.1.5"))
    with site.namespace.socket(socket.AF_INET, socket.SOCK_STREAM) as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        with site.daemon() as daemon:
            site.serves({WEB: ("10.244.1.5:8080",)})
            log = daemon.wait_for("another process listens there (is kube-proxy still running?)")
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
    """
    With bindAddressHardFail the process ends with 1, and an Event says why.
    """
    site.api.apply(node_object(), service())
    with site.namespace.socket(socket.AF_INET, socket.SOCK_STREAM) as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        with site.daemon("--bind-address-hard-fail", ready=False) as daemon:
            assert daemon.wait() == 1
            assert "another process listens there" in daemon.log
    assert site.wait_for_event(reason)["type"] == "Warning"


def test_sysctls_are_written_as_configured(site: Site) -> None:
    """
    The time-outs of conntrack are the namespace's own.
    """
    site.api.apply(node_object(), service())
    flags = ("--conntrack-tcp-timeout-established=23h", "--conntrack-udp-timeout=33s")
    with site.daemon(*flags):
        for name, value in (("tcp_timeout_established", "82800"), ("udp_timeout", "33")):
            path = Path("/proc/sys/net/netfilter") / f"nf_conntrack_{name}"
            assert site.namespace.call(path.read_text).strip() == value
