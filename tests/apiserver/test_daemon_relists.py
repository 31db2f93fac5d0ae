"""``nfproxy run`` with watches that break, send nonsense or expire: it misses no change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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

WEB, OTHER = "10.96.0.1:80/tcp", "10.96.0.2:80/tcp"
RESOURCES = ("services", "endpointslices", "nodes", "servicecidrs")


@pytest.fixture
def daemon(site: Site) -> Iterator[Daemon]:
    """The daemon, with rules for the Services web and other."""
    site.add_node_addresses()
    site.api.apply(
        node_object(),
        service(),
        endpoint_slice("web", "10.244.1.5"),
        service("other", "10.96.0.2"),
        endpoint_slice("other", "10.244.1.7"),
    )
    with site.daemon() as started:
        for resource in RESOURCES:
            site.api.wait_for_watches(resource)
        yield started


def send_html(site: Site) -> None:
    """Answer with a page of HTML, as a proxy in between may."""
    site.api.send_raw("endpointslices", "<html><body>504 Gateway Time-out</body></html>\n")


FAULTS: dict[str, Callable[[Site], object]] = {
    "reset": lambda site: site.api.close_watches(abort=True),
    "expired": lambda site: [site.api.send_error(resource) for resource in RESOURCES],
    "error": lambda site: site.api.send_error("endpointslices", 500, "InternalError"),
    "malformed": lambda site: [site.api.send_malformed(resource) for resource in RESOURCES],
    "html": send_html,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_watch_that_breaks_is_resumed(site: Site, daemon: Daemon, fault: str) -> None:
    """That changes nothing in the kernel; later changes arrive."""
    generation = site.commands.generation()
    ended = "nfproxy_watches_ended_total"
    assert site.metric(ended) == 0

    FAULTS[fault](site)

    wait_until(lambda: site.metric(ended, resource="endpointslices"))
    assert site.metric(ended, resource="endpointslices") == 1
    site.api.wait_for_watches("endpointslices")
    site.api.apply(service("third", "10.96.0.3"), endpoint_slice("web", "10.244.1.6"))
    site.serves({WEB: ("10.244.1.6:8080",), OTHER: ("10.244.1.7:8080",), "10.96.0.3:80/tcp": ()})
    assert site.commands.generation() <= generation + 3  # two changes, and a chain for no endpoint
    assert errors_in(daemon.log) == []


def test_an_event_cut_in_the_middle_is_sent_again(site: Site, daemon: Daemon) -> None:
    """A stream that ends within an event is resumed before it."""
    site.api.cut_next_event("endpointslices")
    site.api.apply(endpoint_slice("web", "10.244.1.6"))
    site.serves({WEB: ("10.244.1.6:8080",), OTHER: ("10.244.1.7:8080",)})
    assert errors_in(daemon.log) == []


def test_events_of_an_unknown_type_are_skipped(site: Site, daemon: Daemon) -> None:
    """Neither the watch nor the object is affected."""
    for resource in ("services", "endpointslices"):
        changed = {"kind": "Whatever", "metadata": {"namespace": "default", "name": "web"}}
        site.api.send_event(resource, "REDECORATED", changed)
    site.api.apply(endpoint_slice("web", "10.244.1.6"))
    site.serves({WEB: ("10.244.1.6:8080",), OTHER: ("10.244.1.7:8080",)})
    assert site.metric("nfproxy_watches_ended_total") == 0


@pytest.mark.parametrize("resource", ["services", "endpointslices"])
def test_a_deletion_that_was_missed_is_found_by_the_next_list(
    site: Site, daemon: Daemon, resource: str
) -> None:
    """The history is gone (410): objects that are not in the list go, the others stay."""
    name = "web" if resource == "services" else "web-ipv4"
    with site.api.withheld():
        site.api.delete(resource, "default", name)
        site.api.apply(endpoint_slice("other", "10.244.1.8"))
    site.api.compact()
    site.api.close_watches()

    left: dict[str, tuple[str, ...]] = {OTHER: ("10.244.1.8:8080",)}
    site.serves(left if resource == "services" else {WEB: (), **left})
    assert site.metric("nfproxy_lists_total", resource=resource) == 2
    site.is_in_step()


def test_a_list_that_expires_between_its_pages_starts_over(site: Site) -> None:
    """Continuing with the token that the API server offers would leave gaps."""
    site.api.configure(streaming_lists=False)
    site.api.apply(
        node_object(),
        *(service(f"s{n}", f"10.96.{n // 250 + 1}.{n % 250 + 1}") for n in range(700)),
    )
    site.api.slow_lists(200_000, "services")
    with site.daemon(ready=False) as daemon:
        site.api.wait_for_requests("services", "list")
        site.api.slow_lists(None, "services")
        site.api.apply(service())
        site.api.expire_continue_tokens()

        daemon.wait_for("ready after")
        assert len(site.commands.frontends()) == 701
        codes = [request.code for request in site.api.requests("services", "list")]
        assert codes == [200, 410, 200, 200]


@pytest.mark.parametrize(
    ("good", "bad", "resource"),
    [
        (service(), service(port="eighty"), "services"),
        (
            endpoint_slice("web", "10.244.1.5"),
            endpoint_slice("web", "10.244.1.6", port={"of": "call"}),
            "endpointslices",
        ),
    ],
    ids=["Service", "EndpointSlice"],
)
def test_an_object_that_cannot_be_read_stays_as_it_was(
    site: Site, daemon: Daemon, good: dict[str, Any], bad: dict[str, Any], resource: str
) -> None:
    """
    It is reported once, in the log, as an Event and as a metric; other objects are not affected.
    """
    kind = good["kind"]
    site.api.apply(bad)
    event = site.wait_for_event("Undecodable")
    assert event["type"] == "Warning"
    regarding = event["regarding"]
    name = bad["metadata"]["name"]
    assert (regarding["kind"], regarding["namespace"], regarding["name"]) == (kind, "default", name)
    assert site.metric("nfproxy_undecodable_objects_total", kind=kind) == 1
    assert daemon.log.count("WARNING") == daemon.log.count("OOM score") + 1

    # A new list holds it again, which is no news.
    site.api.apply(endpoint_slice("other", "10.244.1.8"))
    site.api.compact()
    site.api.close_watches()
    wait_until(lambda: site.metric("nfproxy_lists_total", resource=resource) >= 2)
    before = {WEB: ("10.244.1.5:8080",), OTHER: ("10.244.1.8:8080",)}
    site.serves(before)
    assert site.metric("nfproxy_undecodable_objects_total", kind=kind) == 1
    assert len(site.events("Undecodable")) == 1

    site.api.delete(resource, "default", name)
    site.serves({OTHER: before[OTHER]} if kind == "Service" else {**before, WEB: ()})
    site.api.apply(good)
    site.serves(before)
    eventually(0.0, lambda: site.metric("nfproxy_object_problems", kind=kind))
