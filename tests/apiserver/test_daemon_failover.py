"""``nfproxy run`` with two API servers of one cluster, of which it uses one at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from support.processes.apidaemon import Site
from support.processes.commands import (
    Daemon,
    endpoint_slice,
    errors_in,
    eventually,
    node_object,
    service,
    wait_until,
)

from nfproxy.apiserver.serverpool import Server, ServerPool

WEB = "10.96.0.1:80/tcp"
IN_POD = (
    "mount -t tmpfs none /var/run && mkdir -p /var/run/secrets/kubernetes.io && "
    'ln -s "$0" /var/run/secrets/kubernetes.io/serviceaccount && exec "$@"'
)


class Two:
    """Two API servers with the same objects; the daemon of node-1 starts with `first`."""

    def __init__(self, site: Site) -> None:
        self.site = site
        apis = {api.url: api for api in (site.api, site.api.beside())}
        self.urls = ",".join(apis)
        self.first: Any = apis[ServerPool([Server(url) for url in apis], "node-1").current.url]
        (self.second,) = [api for api in apis.values() if api is not self.first]

    def daemon(self, *flags: object, **options: Any) -> AbstractContextManager[Daemon]:
        """Run the daemon."""
        return self.site.daemon(f"--master={self.urls}", *flags, **options)

    def change(self, address: str) -> None:
        """Change the Service's endpoint, and wait until the kernel has it."""
        self.site.api.apply(endpoint_slice("web", address))
        self.site.serves({WEB: (f"{address}:8080",)})

    def watches(self) -> tuple[int, int]:
        """Return how many watches each server has."""
        return self.first.watches(), self.second.watches()

    def metric(self, name: str, api: Any, **labels: str) -> float:
        """Return a metric about one server."""
        return self.site.metric(name, host=f"127.0.0.1:{api.port}", **labels)

    @contextlib.contextmanager
    def black_hole(self, api: Any) -> Iterator[None]:
        """Drop every packet to one server."""
        rule = f"meta l4proto tcp th dport {api.port} drop"
        chain = f"chain in {{\n type filter hook input priority 0\n {rule}\n }}"
        self.site.commands.nft(f"table inet black-hole {{\n {chain}\n }}\n")
        try:
            yield
        finally:
            self.site.commands.nft("delete table inet black-hole")


@pytest.fixture
def two(site: Site) -> Two:
    """Two API servers, and a Service with an endpoint."""
    site.api.apply(node_object(), service(), endpoint_slice("web", "10.244.1.5"))
    return Two(site)


def test_watches_resume_at_the_next_server_and_stay_there(two: Two) -> None:
    """
    They resume at their version, without a new list. The first server is used again when the
    second fails.
    """
    with two.daemon() as daemon:
        eventually((4, 0), two.watches)
        two.first.stop()
        two.change("10.244.1.6")
        eventually((0, 4), two.watches)
        assert {request.verb for request in two.second.requests()} <= {"watch", "create"}
        assert all(r.query["resourceVersion"] for r in two.second.requests(verb="watch"))
        assert two.metric("nfproxy_api_server_in_use", two.second) == 1
        assert two.metric("nfproxy_api_server_in_use", two.first) == 0

        two.first.start()
        two.second.close_watches()
        two.change("10.244.1.7")
        eventually((0, 4), two.watches)

        two.second.stop()
        two.change("10.244.1.8")
        eventually((4, 0), two.watches)
        daemon.wait_for(": in use now, instead of", times=2)
        assert "none of 2" not in daemon.log
        assert errors_in(daemon.log) == []


def test_a_version_that_the_next_server_has_forgotten_leads_to_a_list(two: Two) -> None:
    """The version is too old for that server."""
    with two.daemon():
        eventually((4, 0), two.watches)
        with two.site.api.withheld():
            two.site.api.apply(endpoint_slice("web", "10.244.1.6"))
        two.site.api.compact()
        two.first.stop()
        two.site.serves({WEB: ("10.244.1.6:8080",)})
        two.change("10.244.1.7")


def test_a_silent_server_at_start_is_left(two: Two) -> None:
    """Each request waits for it once at most; later requests go elsewhere."""
    with two.black_hole(two.first), two.daemon():
        two.change("10.244.1.6")
        failed = two.metric("rest_client_requests_total", two.first, code="<error>")
        assert 1 <= failed <= 5
        two.second.close_watches()
        two.change("10.244.1.7")
        assert two.metric("rest_client_requests_total", two.first, code="<error>") == failed
    assert two.first.requests() == []


def test_a_server_that_falls_silent_is_left(two: Two) -> None:
    """This happens as soon as watches break and cannot be resumed there."""
    with two.daemon():
        eventually((4, 0), two.watches)
        with two.black_hole(two.first):
            two.first.restart()
            eventually((0, 4), two.watches)
            two.change("10.244.1.6")


def test_an_outage_of_all_servers_is_reported_once_and_ends_with_the_first_to_return(
    two: Two,
) -> None:
    """Installed rules stay; requests keep to the back-off."""
    with two.daemon() as daemon:
        eventually((4, 0), two.watches)
        two.first.stop()
        two.second.stop()
        two.site.api.apply(endpoint_slice("web", "10.244.1.6"))
        log = daemon.wait_for("none of 2 API servers can be reached: ")
        for api in (two.first, two.second):
            assert f"127.0.0.1:{api.port} refuses connections" in log
        wait_until(lambda: failures(two) > 8)
        assert daemon.log.count("none of 2 API servers") == 1
        assert two.site.commands.frontends() == {WEB: ("10.244.1.5:8080",)}

        two.first.start()
        two.site.serves({WEB: ("10.244.1.6:8080",)})
        eventually((4, 0), two.watches)
        daemon.wait_for("reachable again")


def failures(two: Two) -> float:
    """Return how many requests have failed."""
    return two.site.metric("rest_client_requests_total", code="<error>")


def test_a_pod_s_credentials_serve_for_the_servers_that_are_named(two: Two, tmp_path: Path) -> None:
    """With --master in a pod, CA and token come from its service account."""
    account = tmp_path / "account"
    two.site.api.write_service_account(account)
    prefix = ["unshare", "--mount", "sh", "-c", IN_POD, str(account)]
    with two.daemon(kubeconfig=False, prefix=prefix):
        two.change("10.244.1.6")
        two.first.stop()
        two.change("10.244.1.7")


def test_the_service_s_own_address_without_a_proxy_is_explained(site: Site, tmp_path: Path) -> None:
    """A pod without a kubeconfig asks the Service kubernetes, which needs a proxy."""
    account = tmp_path / "account"
    environment = site.api.write_service_account(account)
    environment["KUBERNETES_SERVICE_HOST"] = "10.96.0.1"
    words = [f"{name}={value}" for name, value in environment.items()]
    prefix = ["unshare", "--mount", "sh", "-c", IN_POD, str(account), "env", *words]
    with site.daemon(kubeconfig=False, prefix=prefix, ready=False) as daemon:
        log = daemon.wait_for("this is the address of the Service kubernetes")
        assert "name the API servers themselves, with --master" in log
        assert log.count("KUBERNETES_SERVICE_HOST") == 1
        assert daemon.alive
