"""``nfproxy run`` and the API server restart separately: no change is undone or repeated."""

from __future__ import annotations

import signal

import pytest
from support.objects.everything import everything
from support.processes.apidaemon import Site
from support.processes.commands import endpoint_slice, errors_in, node_object, service, wait_until

WEB, OTHER = "10.96.0.1:80/tcp", "10.96.0.2:80/tcp"
SIGNALS = (signal.SIGTERM, signal.SIGKILL)


def apply_two(site: Site) -> None:
    """Give the API server two Services."""
    site.api.apply(
        node_object(),
        service(),
        endpoint_slice("web", "10.244.1.5"),
        service("other", "10.96.0.2"),
        endpoint_slice("other", "10.244.1.7"),
    )


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_daemon_that_restarts_finds_its_rules(site: Site, number: signal.Signals) -> None:
    """
    However it ended, installed rules stay. Without a change it writes no element, only the fixed
    rules, once.
    """
    site.api.apply(*everything())
    with site.daemon() as daemon:
        code = daemon.end(number)
        assert code == (0 if number is signal.SIGTERM else -signal.SIGKILL)
    state, generation = site.commands.state(), site.commands.generation()
    assert state["frontends"]
    with site.daemon():
        assert site.metric("nfproxy_transaction_operations_sum") == 0
    assert site.commands.generation() == generation + 1
    assert site.commands.state() == state


def test_changes_during_the_restart_are_applied_at_the_start(site: Site) -> None:
    """Only objects that were added, changed or deleted lead to writes."""
    apply_two(site)
    with site.daemon() as daemon:
        daemon.end(signal.SIGKILL)
    site.api.apply(service("third", "10.96.0.3"), endpoint_slice("web", "10.244.1.6"))
    site.api.delete("services", "default", "other")
    with site.daemon():
        site.serves({WEB: ("10.244.1.6:8080",), "10.96.0.3:80/tcp": ()})
        assert site.metric("nfproxy_transaction_operations_sum") < 15


@pytest.mark.parametrize("how", ["same", "port"])
def test_an_api_server_that_restarts_is_found_again(site: Site, how: str) -> None:
    """
    It is at its address again, or at that of a changed kubeconfig.

    No event reports what was deleted in between.
    """
    apply_two(site)
    with site.daemon() as daemon:
        site.api.wait_for_watches(count=4)
        generation = site.commands.generation()
        with site.api.withheld():
            site.api.delete("endpointslices", "default", "other-ipv4")
            site.api.restart(new_port=how == "port")
        site.api.compact()
        if how == "port":
            site.api.write_kubeconfig(site.kubeconfig)
        site.serves({WEB: ("10.244.1.5:8080",), OTHER: ()})
        assert site.commands.generation() <= generation + 2

        site.api.apply(endpoint_slice("web", "10.244.1.6"))
        site.serves({WEB: ("10.244.1.6:8080",), OTHER: ()})
        assert errors_in(daemon.log) == []


def test_rules_stay_while_the_api_server_is_away(site: Site) -> None:
    """The daemon also repairs them, and is healthy."""
    apply_two(site)
    with site.daemon() as daemon:
        site.api.wait_for_watches(count=4)
        generation = site.commands.generation()
        site.api.stop()
        site.api.apply(service("third", "10.96.0.3"), endpoint_slice("web", "10.244.1.6"))
        site.api.delete("services", "default", "other")
        daemon.wait_for("refuses connections; check that the API server runs there")
        assert site.commands.generation() == generation
        assert [site.code(path) for path in ("/healthz", "/livez", "/readyz")] == [200] * 3
        site.commands.nft("delete table ip nfproxy")  # repaired from the known objects
        site.serves({WEB: ("10.244.1.5:8080",), OTHER: ("10.244.1.7:8080",)})

        site.api.start()

        site.serves({WEB: ("10.244.1.6:8080",), "10.96.0.3:80/tcp": ()})
        assert daemon.log.count("trying again") == 1


def test_a_daemon_that_starts_without_api_server_changes_nothing(site: Site) -> None:
    """The rules of an earlier daemon stay until the objects are known."""
    apply_two(site)
    with site.daemon() as daemon:
        daemon.end(signal.SIGKILL)
    state, generation = site.commands.state(), site.commands.generation()
    site.api.freeze()
    with site.daemon(ready=False) as daemon:
        wait_until(lambda: "serving health" in daemon.log and site.code("/readyz") == 503)
        assert site.code("/readyz") == 503
        assert (site.commands.state(), site.commands.generation()) == (state, generation)

        site.api.thaw()

        daemon.wait_for("ready after")
        assert site.commands.state() == state
