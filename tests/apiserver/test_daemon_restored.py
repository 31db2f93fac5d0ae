"""``nfproxy run`` with an etcd that was restored from a backup, and overtook what nfproxy knew."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.processes.apidaemon import Site
from support.processes.commands import endpoint_slice, node_object, service, wait_until

WEB, LATE = "10.96.0.1:80/tcp", "10.96.0.3:80/tcp"
GHOST = "10.96.0.2:80/tcp"
#: Lists for this reason are two to four seconds apart, and not ten to twenty.
SOON = (
    "import functools; from nfproxy.apiserver import reflector; "
    "reflector.WatchTimeouts = functools.partial(reflector.WatchTimeouts, relist_s=2.0)"
)


def recreate(site: Site) -> None:
    """Change an object that was deleted and created again while nfproxy did not watch."""
    site.api.apply(endpoint_slice("web", "10.244.1.9"))


def repeat_a_version(site: Site) -> None:
    """Send an event whose version is that of an earlier one."""
    old = site.api.get("endpointslices", "default", "web-ipv4")
    old["metadata"] |= {"resourceVersion": "17"}
    site.api.send_event("endpointslices", "MODIFIED", old)


@pytest.mark.parametrize("sign", [recreate, repeat_a_version])
def test_what_a_restore_undid_goes_at_the_first_sign(
    site: Site, sign: Callable[[Site], None]
) -> None:
    """
    The watches resume without an error, since the versions overtook the ones that nfproxy knows.

    The sign is in one resource; what is missing is in others, too.
    """
    site.add_node_addresses()
    site.api.apply(node_object(), service(), endpoint_slice("web", "10.244.1.5"))
    with site.daemon(prepare=SOON) as daemon:
        for resource in ("services", "endpointslices"):
            site.api.wait_for_watches(resource)
        site.api.back_up()
        site.api.apply(service("ghost", "10.96.0.2"), endpoint_slice("web", "10.244.1.6"))
        site.serves({WEB: ("10.244.1.6:8080",), GHOST: ()})

        site.api.stop()
        site.api.restore()
        site.api.delete("endpointslices", "default", "web-ipv4")
        site.api.apply(endpoint_slice("web", "10.244.1.7"), service("late", "10.96.0.3"))
        site.api.apply(*(service(f"s{n}", f"10.96.1.{n + 1}") for n in range(20)))
        for n in range(20):
            site.api.delete("services", "default", f"s{n}")
        site.api.start()
        for resource in ("services", "endpointslices"):
            site.api.wait_for_watches(resource)
        assert site.metric("nfproxy_lists_total", resource="services") == 1
        assert GHOST in site.commands.frontends()

        sign(site)

        wait_until(lambda: site.metric("nfproxy_lists_total", resource="services") > 1)
        endpoint = "10.244.1.9:8080" if sign is recreate else "10.244.1.7:8080"
        site.serves({WEB: (endpoint,), LATE: ()})
        assert "was etcd restored from a backup?" in daemon.log
