"""
Every kind of change that the API server sends, and its effect on the kernel; one daemon for all.

With NFPROXY_TEST_APISERVER (see conftest.py) the tests run on a real kube-apiserver.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.processes.apidaemon import Site, shared_site
from support.processes.commands import endpoint_slice, eventually, node_object, service


@pytest.fixture(scope="module")
def site(namespaces_allowed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site whose daemon runs; each test has a Service of its own."""
    with shared_site(tmp_path_factory.mktemp("site"), node_object()) as made:
        yield made


def becomes(site: Site, address: str, endpoints: tuple[str, ...] | None) -> None:
    """Assert that a cluster IP gets exactly these endpoints at port 80, or, for None, goes."""
    wanted = None if endpoints is None else tuple(f"{one}:8080" for one in endpoints)
    eventually(wanted, lambda: site.commands.frontends().get(f"{address}:80/tcp"))


def test_endpoints_come_and_go(site: Site) -> None:
    """
    They are added, replaced and removed, down to none and up again, from one slice and from two.
    """
    site.api.apply(service("a", "10.96.1.1"), endpoint_slice("a", "10.244.1.1"))
    becomes(site, "10.96.1.1", ("10.244.1.1",))
    for addresses in [("10.244.1.1", "10.244.1.2"), ("10.244.1.2", "10.244.1.3"), ("10.244.1.3",)]:
        site.api.apply(endpoint_slice("a", *addresses))
        becomes(site, "10.96.1.1", addresses)
    site.api.apply(endpoint_slice("a"))
    becomes(site, "10.96.1.1", ())
    site.api.apply(endpoint_slice("a", "10.244.2.1", name="a-more"))
    becomes(site, "10.96.1.1", ("10.244.2.1",))
    site.api.apply(endpoint_slice("a", "10.244.1.1"))
    becomes(site, "10.96.1.1", ("10.244.1.1", "10.244.2.1"))
    site.api.delete("endpointslices", "default", "a-more")
    becomes(site, "10.96.1.1", ("10.244.1.1",))


def test_endpoints_that_terminate_serve_only_where_none_is_ready(site: Site) -> None:
    """KEP-1669: a rollout without overlap loses no connection."""
    leaving = {"ready": False, "serving": True, "terminating": True}
    site.api.apply(
        service("b", "10.96.1.2"),
        endpoint_slice("b", "10.244.1.1", name="b-old"),
        endpoint_slice("b", "10.244.1.2", name="b-new"),
    )
    becomes(site, "10.96.1.2", ("10.244.1.1", "10.244.1.2"))
    site.api.apply(endpoint_slice("b", "10.244.1.1", name="b-old", conditions=leaving))
    becomes(site, "10.96.1.2", ("10.244.1.2",))
    site.api.apply(endpoint_slice("b", "10.244.1.2", name="b-new", conditions={"ready": False}))
    becomes(site, "10.96.1.2", ("10.244.1.1",))
    site.api.delete("endpointslices", "default", "b-old")
    becomes(site, "10.96.1.2", ())


def test_a_service_changes_and_goes(site: Site) -> None:
    """The latest version has the address and ports; the slices stay without it."""
    site.api.apply(service("c", "10.96.1.3"), endpoint_slice("c", "10.244.1.1"))
    becomes(site, "10.96.1.3", ("10.244.1.1",))
    site.api.apply(service("c", "10.96.1.3", port=81))
    becomes(site, "10.96.1.3", None)
    assert site.commands.frontends()["10.96.1.3:81/tcp"] == ("10.244.1.1:8080",)
    site.api.delete("services", "default", "c")
    eventually(False, lambda: "10.96.1.3:81/tcp" in site.commands.frontends())
    site.api.apply(service("c", "10.96.1.33"))
    becomes(site, "10.96.1.33", ("10.244.1.1",))


def test_a_service_of_another_proxy_is_ignored(site: Site) -> None:
    """Setting the label service-proxy-name removes it, and clearing it brings it back."""
    label = {"service.kubernetes.io/service-proxy-name": "cilium"}
    site.api.apply(service("d", "10.96.1.4"), endpoint_slice("d", "10.244.1.1"))
    becomes(site, "10.96.1.4", ("10.244.1.1",))
    site.api.apply(service("d", "10.96.1.4", metadata={"labels": label}))
    becomes(site, "10.96.1.4", None)
    site.api.apply(service("d", "10.96.1.4"))
    becomes(site, "10.96.1.4", ("10.244.1.1",))


def test_a_service_that_becomes_a_name_has_no_address(site: Site) -> None:
    """The type ExternalName is for DNS alone, even if the object still has addresses."""
    site.api.apply(service("e", "10.96.1.5"), endpoint_slice("e", "10.244.1.1"))
    becomes(site, "10.96.1.5", ("10.244.1.1",))
    site.api.apply(service("e", "10.96.1.5", type="ExternalName", externalName="example.org"))
    becomes(site, "10.96.1.5", None)
    site.api.apply(service("e", "10.96.1.5"))
    becomes(site, "10.96.1.5", ("10.244.1.1",))


def test_slices_that_become_headless_are_not_looked_at(site: Site) -> None:
    """By this label the control plane marks slices that no proxy serves."""
    site.api.apply(service("f", "10.96.1.6"), endpoint_slice("f", "10.244.1.1"))
    becomes(site, "10.96.1.6", ("10.244.1.1",))
    headless = endpoint_slice("f", "10.244.1.1")
    headless["metadata"]["labels"]["service.kubernetes.io/headless"] = ""
    site.api.apply(headless)
    becomes(site, "10.96.1.6", ())


def test_a_node_that_moves_to_another_zone_is_planned_again(site: Site) -> None:
    """Hints name zones; the Node's label has the zone of this node."""
    hinted = endpoint_slice("g", "10.244.1.1", "10.244.1.2")
    for endpoint, zone in zip(hinted["endpoints"], "ab", strict=True):
        endpoint |= {"zone": zone, "hints": {"forZones": [{"name": zone}]}}
    site.api.apply(service("g", "10.96.1.7"), hinted)
    becomes(site, "10.96.1.7", ("10.244.1.1",))
    for zone, chosen in (("b", ("10.244.1.2",)), ("a", ("10.244.1.1",))):
        site.api.apply(node_object(labels={"topology.kubernetes.io/zone": zone}))
        becomes(site, "10.96.1.7", chosen)


def test_after_all_changes_the_kernel_matches_the_objects(site: Site) -> None:
    """``nfproxy diff`` reads the objects from the API server itself."""
    site.is_in_step()
