"""What values of the model take in memory: there are tens of thousands of each."""

import gc
import sys
from typing import Any

from support.objects.model import endpoint, endpoint_slice, service

from nfproxy.model.addresses import FAMILIES
from nfproxy.model.endpoints import EndpointSlice
from nfproxy.plan.desired import Touched
from nfproxy.plan.frontends import FrontendKey
from nfproxy.plan.shadows import Shadows
from nfproxy.reconcile.backlog import Backlog

POD_IPS = [f"10.244.{number // 250}.{1 + number % 250}" for number in range(1000)]


def size(value: Any, seen: set[int]) -> int:
    """Return the bytes that a value takes, and all that it leads to and that was not seen yet."""
    if id(value) in seen:
        return 0
    seen.add(id(value))
    names = getattr(value, "__struct_fields__", ())
    parts = [getattr(value, name) for name in names]
    if isinstance(value, tuple | list):
        parts = [*value]
    return sys.getsizeof(value) + sum(size(part, seen) for part in parts)


def test_an_endpoint_takes_little_more_than_its_address() -> None:
    """A cluster has 100,000 of them: on few nodes, mostly in one condition."""
    seen: set[int] = set()
    size(
        endpoint_slice(
            "web", *(endpoint(a, node=f"node-{n % 9}") for n, a in enumerate(POD_IPS[:10]))
        ),
        seen,
    )
    many = endpoint_slice(
        "web", *(endpoint(a, node=f"node-{n % 9}") for n, a in enumerate(POD_IPS))
    )

    assert size(many, seen) < 14 * len(POD_IPS)


def test_slices_of_one_endpoint_share_all_but_the_address() -> None:
    """Most Services of a large cluster have few endpoints."""
    one, two = (endpoint_slice("web", endpoint(a, node="node-1")) for a in POD_IPS[:2])

    assert one.kinds is two.kinds
    assert one != two


def test_endpoints_come_back_as_they_were_given() -> None:
    """In their order, with all of their fields."""
    mixed = (
        endpoint("10.244.0.1", node="node-1", zones=["a"]),
        endpoint("10.244.0.2", ready=False, terminating=True),
        endpoint("10.244.0.3", serving=False, nodes=["node-2"]),
    )
    for given in ((), mixed[:1], mixed, mixed[:1] * 3, (mixed[0], *mixed)):
        made = endpoint_slice("web", *given)

        assert made.endpoints == given
        assert made == EndpointSlice.of(made.name, made.service, made.family, made.ports, given)


def test_a_cluster_ip_takes_no_dictionary() -> None:
    """An empty one takes more than the address."""
    made = service("web", cluster_ips=["10.96.0.1", "fd00::1"])

    assert made.families == FAMILIES
    assert [made.cluster_ip(family) for family in FAMILIES] == [*made.cluster_ips]
    assert service("web").cluster_ip(FAMILIES[1]) is None
    assert size(made.cluster_ips, set()) < sys.getsizeof({1: 1})


def test_no_container_is_kept_for_each_service() -> None:
    """Of what knows the owner of each cluster IP, or what waits."""
    gc.collect()
    shadows = Shadows({}, None)  # type: ignore[arg-type]
    made = service("web")
    shadows.cluster_ips_changed(made.name, (), made.cluster_ips)
    assert shadows._cluster_ips == {made.cluster_ips[0]: (made.name,)}
    shadows.cluster_ips_changed(service("other").name, (), made.cluster_ips)
    shadows.cluster_ips_changed(made.name, made.cluster_ips, ())
    assert shadows._cluster_ips == {made.cluster_ips[0]: (service("other").name,)}
    shadows.cluster_ips_changed(service("other").name, made.cluster_ips, ())
    assert not shadows._cluster_ips


def test_an_empty_backlog_takes_no_room() -> None:
    """A first load puts everything into it."""
    backlog = Backlog(FAMILIES)
    names = [service(f"s{number}").name for number in range(1000)]
    keys = [FrontendKey(FAMILIES[0], b"", 6, port) for port in range(1000)]  # type: ignore[arg-type]
    backlog.add(Touched(dict(zip(keys, names, strict=True)), services=set(names)))
    while (turn := backlog.next_turn()) is not None:
        while turn:
            turn.take()
    assert backlog.take_finished() == set(names)

    held = (backlog._known, backlog._planned, backlog._parts)
    assert sum(map(sys.getsizeof, held)) < 1000
