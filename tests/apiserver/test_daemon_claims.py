"""``nfproxy run`` and Services that claim what is not theirs: packets, Events, metrics."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.processes.apidaemon import EVENTS_AT_ONCE, HEALTH_PORT, Site, site_in
from support.processes.commands import (
    endpoint_slice,
    errors_in,
    eventually,
    node_object,
    service,
    wait_until,
)

from nfproxy.tools.lab import Lab

NODE_IP = "192.168.77.11"
WEB = "10.96.0.1:80/tcp"


@pytest.fixture
def site(namespaces_allowed: None, tmp_path: Path) -> Iterator[Site]:
    """A site whose daemon reaches the API server at an address that Services can name."""
    with Lab() as lab:
        node = lab.namespace("node")
        for command in (
            ["link", "add", "eth0", "type", "bridge"],
            ["address", "add", f"{NODE_IP}/24", "dev", "eth0"],
            ["address", "add", "192.168.77.1/24", "dev", "eth0"],
            ["link", "set", "eth0", "up"],
        ):
            node.run(["ip", *command])
        with site_in(node, tmp_path / "site", addresses=("192.168.77.1", "127.0.0.1")) as made:
            server = f"https://192.168.77.1:{made.api.port}"
            made.kubeconfig = made.api.write_kubeconfig(
                tmp_path / "claims", server=server, ca="skip"
            )
            made.api.apply(node_object(), service(), endpoint_slice("web", "10.244.1.5"))
            yield made


REASONS = ["FieldIgnored", "FieldIgnored", "FrontendConflict", "FrontendShadows"]


def reasons(site: Site) -> list[str]:
    """Return the reasons of the Events about Services, in order."""
    return sorted(one["reason"] for one in site.api.posted_events() if one["reason"] in REASONS)


def repeated(site: Site) -> int:
    """Return how many Events the API server has refused, since they were there."""
    return sum(1 for request in site.api.requests("events", "create") if request.code == 409)


def test_the_api_server_and_the_health_page_stay_reachable(site: Site) -> None:
    """After a break of the watches, and after a restart of nfproxy, too."""
    mallory = service(
        "mallory",
        "10.96.0.66",
        externalIPs=["192.168.77.1", NODE_IP],
        ports=[
            {"name": "api", "port": site.api.port, "protocol": "TCP"},
            {"name": "health", "port": HEALTH_PORT, "protocol": "TCP"},
        ],
    )
    with site.daemon(prepare=EVENTS_AT_ONCE) as daemon:
        site.serves({WEB: ("10.244.1.5:8080",)})
        site.api.apply(mallory, endpoint_slice("mallory", "10.244.1.66"))
        eventually(3.0, lambda: site.metric("nfproxy_frontends_refused"))
        site.api.restart()
        site.api.apply(endpoint_slice("web", "10.244.1.6"))
        eventually(("10.244.1.6:8080",), lambda: site.commands.frontends().get(WEB, ()))
        assert site.code("/livez", address=NODE_IP) == 200
        assert "no Service may take it over" in daemon.log
        wait_until(lambda: site.events("FrontendRefused"))
        event = site.events("FrontendRefused")[0]
        assert event["regarding"]["name"] == "mallory"
        assert event["type"] == "Warning"
    with site.daemon():
        site.api.delete("services", "default", "mallory")
        eventually(0.0, lambda: site.metric("nfproxy_frontends_refused"))
        assert site.diff().code == 0


def test_authors_hear_what_is_wrong_with_their_services(site: Site) -> None:
    """One Event for each object and reason, whichever node or run of nfproxy posts it."""
    site.api.apply(
        service("broken", "10.96.0.70", externalIPs=["127.0.0.1", "240.0.0.1", "::ffff:127.0.0.1"]),
        service("unusable", "10.96.0.71", clusterIPs=["10.96.0.300"], clusterIP="10.96.0.300"),
        service("young", "10.96.0.72", externalIPs=["10.96.0.1", NODE_IP]),
    )
    with site.daemon(prepare=EVENTS_AT_ONCE) as first:
        eventually(REASONS, lambda: reasons(site))
    with site.daemon(prepare=EVENTS_AT_ONCE) as second:
        eventually(len(REASONS), lambda: repeated(site))
    assert reasons(site) == REASONS
    for daemon in (first, second):
        assert errors_in(daemon.log) == []
        assert "Events: cannot be posted" not in daemon.log
    notes = {event["regarding"]["name"]: event["note"] for event in site.events("FieldIgnored")}
    assert "spec.externalIPs[0]: 127.0.0.1 is a loopback address" in notes["broken"]
    assert "spec.externalIPs[1]: 240.0.0.1 is a reserved address" in notes["broken"]
    assert "spec.externalIPs[2]: 127.0.0.1 is a loopback address" in notes["broken"]
    assert "10.96.0.300" in notes["unusable"]
    (conflict,) = site.events("FrontendConflict")
    assert conflict["regarding"]["name"] == "young"
    assert "10.96.0.1:80/tcp is the cluster IP of Service default/web" in conflict["note"]
