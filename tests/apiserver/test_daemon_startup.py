"""``nfproxy run`` at start, with an API server that is slow, refuses, or is absent."""

from __future__ import annotations

import re

import pytest
from support.processes.apidaemon import Site
from support.processes.commands import (
    endpoint_slice,
    errors_in,
    eventually,
    node_object,
    service,
    wait_until,
)

WEB = {"10.96.0.1:80/tcp": ("10.244.1.5:8080",)}
LISTED = ("services", "endpointslices")


def apply_web(site: Site) -> None:
    """Create a Node, a Service and its endpoint."""
    site.api.apply(node_object(), service(), endpoint_slice("web", "10.244.1.5"))


@pytest.mark.parametrize("resource", LISTED)
def test_no_rule_is_installed_from_half_of_the_objects(site: Site, resource: str) -> None:
    """
    Without EndpointSlices every Service would be rejected, so both lists must be complete.

    For a forbidden resource, the log names the missing RBAC rule.
    """
    apply_web(site)
    site.api.forbid(resource)
    (other,) = {*LISTED} - {resource}
    with site.daemon(ready=False) as daemon:
        site.api.wait_for_watches(other)
        site.api.wait_for_requests(resource, "", 3)
        assert site.commands.tables() == []
        assert site.code("/readyz") == 503
        assert site.code("/livez") == 200
        log = daemon.wait_for("403 Forbidden")
        assert f'resources ["{resource}"], verbs ["list", "watch"]' in log

        site.api.permit(resource)

        daemon.wait_for("ready after")
        site.serves(WEB)
        assert site.code("/readyz") == 200
        assert daemon.log.count("trying again") == 1


def test_no_rule_is_installed_while_a_list_is_under_way(site: Site) -> None:
    """A list that breaks off does not count; the next one does."""
    apply_web(site)
    site.api.configure(streaming_lists=False)
    site.api.slow_lists(1, "endpointslices")
    with site.daemon(ready=False) as daemon:
        site.api.wait_for_watches("services")
        site.api.wait_for_requests("endpointslices", "list")
        assert site.commands.tables() == []
        site.api.slow_lists(None, "endpointslices")
        assert site.commands.tables() == []

        site.api.restart()

        daemon.wait_for("ready after")
        site.serves(WEB)


def test_the_daemon_waits_for_an_api_server(site: Site) -> None:
    """The log says what to check, once and not at every attempt."""
    apply_web(site)
    site.api.stop()
    with site.daemon(ready=False) as daemon:
        wait_until(lambda: failed_requests(site) >= 9)
        assert failed_requests(site) >= 9
        assert daemon.alive
        site.programs_nothing()

        site.api.start()

        log = daemon.wait_for("ready after")
        site.serves(WEB)
        said = "refuses connections; check that the API server runs there"
        assert log.count(f"{said}; installed rules stay, trying again") == 1
        assert errors_in(daemon.log) == []


def failed_requests(site: Site) -> float:
    """Return how many requests of the daemon got no answer."""
    try:
        return site.metric("rest_client_requests_total", code="<error>", method="GET")
    except ConnectionRefusedError:  # it does not serve yet
        return 0.0


@pytest.mark.parametrize("how", ["away", "frozen"])
def test_a_daemon_that_waits_for_an_api_server_can_be_stopped(site: Site, how: str) -> None:
    """It stops cleanly, as at any other time."""
    site.api.stop() if how == "away" else site.api.freeze()
    with site.daemon(ready=False) as daemon:
        daemon.wait_for("serving health on")
        assert daemon.end() == 0
        assert "in the middle of something" not in daemon.log
        assert errors_in(daemon.log) == []
    assert site.commands.tables() == []


def test_a_node_that_comes_late_counts(site: Site) -> None:
    """Node ports wait for its addresses, and health follows."""
    ports = [{"port": 80, "nodePort": 30080}]
    site.api.apply(service(type="NodePort", ports=ports), endpoint_slice("web", "10.244.1.5"))
    with site.daemon() as daemon:
        site.serves({**WEB, "node port 30080/tcp (IPv4)": ("10.244.1.5:8080",)})
        assert site.code("/healthz") == 503
        assert site.code("/livez") == 200
        assert "node ports wait for it" in daemon.log
        assert node_port_addresses(site) == []

        site.api.apply(node_object())

        eventually(["192.168.77.11"], lambda: node_port_addresses(site))
        eventually(200, lambda: site.code("/healthz"))


def node_port_addresses(site: Site) -> list[str]:
    """Return the addresses that accept node ports, from the kernel."""
    table = site.namespace.run(["nft", "list", "table", "ip", "nfproxy"]).stdout
    assert "@node-port-addresses" in table  # not every local address
    listed = site.namespace.run(["nft", "list", "set", "ip", "nfproxy", "node-port-addresses"])
    return re.findall(r"\d+\.\d+\.\d+\.\d+", listed.stdout)


def test_the_daemon_waits_for_pod_ranges_where_they_decide(site: Site) -> None:
    """With detectLocalMode NodeCIDR, masquerading depends on them."""
    apply_web(site)
    node = node_object()
    ranges = node["spec"].pop("podCIDRs")
    site.api.apply(node)
    with site.daemon("--detect-local-mode=NodeCIDR", ready=False) as daemon:
        daemon.wait_for("needs spec.podCIDRs")
        site.programs_nothing()
        site.api.apply(endpoint_slice("web", "10.244.1.6"))  # and this change is not lost

        node["spec"]["podCIDRs"] = ranges
        site.api.apply(node)

        daemon.wait_for("ready after")
        site.serves({"10.96.0.1:80/tcp": ("10.244.1.6:8080",)})
        assert "10.244.1.0/24" in site.namespace.run(["nft", "list", "ruleset"]).stdout


@pytest.mark.parametrize("why", ["forbidden", "absent"])
def test_service_cidrs_may_be_missing(site: Site, why: str) -> None:
    """An old cluster lacks them, or an old ClusterRole does not grant them: no reason to wait."""
    apply_web(site)
    if why == "absent":
        site.api.configure(without=["servicecidrs"])
    else:
        site.api.forbid("servicecidrs")
    with site.daemon() as daemon:
        site.serves(WEB)
        site.api.apply(endpoint_slice("web", "10.244.1.6"))
        site.serves({"10.96.0.1:80/tcp": ("10.244.1.6:8080",)})
        assert "no ServiceCIDR within" not in daemon.log
        assert errors_in(daemon.log) == []


def test_both_families_are_programmed_together(site: Site) -> None:
    """A dual-stack Service has the endpoints of a family from slices of that family."""
    site.api.apply(
        node_object(),
        service(clusterIPs=["10.96.0.1", "fd00:10:96::1"], ipFamilies=["IPv4", "IPv6"]),
        endpoint_slice("web", "10.244.1.5"),
        endpoint_slice("web", "fd00:10:244:1::5"),
    )
    with site.daemon():
        site.serves({**WEB, "[fd00:10:96::1]:80/tcp": ("fd00:10:244:1::5:8080",)})


def test_an_older_api_server_is_asked_for_pages(site: Site) -> None:
    """If it refuses streaming lists, lists come in pages of 500, and no object is missing."""
    site.api.configure(streaming_lists=False)
    site.api.apply(
        node_object(),
        *(service(f"s{n}", f"10.96.{n // 250}.{n % 250 + 1}") for n in range(1001)),
        endpoint_slice("s1000", "10.244.1.5"),
    )
    with site.daemon():
        frontends = site.commands.frontends()
        assert len(frontends) == 1001
        assert frontends["10.96.4.1:80/tcp"] == ("10.244.1.5:8080",)
        pages = site.api.requests("services", "list")
        assert [page.query.get("limit") for page in pages] == ["500"] * 3
        assert ["continue" in page.query for page in pages] == [False, True, True]
        assert site.api.requests("services", "watch")[0].code == 422


@pytest.mark.parametrize(
    ("code", "retry_after_s"), [(429, 1), (503, 1), (500, None)], ids=["429", "503", "500"]
)
def test_an_overloaded_api_server_gets_the_time_it_asks_for(
    site: Site, code: int, retry_after_s: int | None
) -> None:
    """The next attempt is not sooner than Retry-After, and succeeds."""
    apply_web(site)
    site.api.fail_next("services", code, retry_after_s=retry_after_s)
    with site.daemon():
        site.serves(WEB)
        first, second, *_ = site.api.requests("services")
        assert first.code == code
        if retry_after_s:
            assert second.time_s - first.time_s >= retry_after_s
