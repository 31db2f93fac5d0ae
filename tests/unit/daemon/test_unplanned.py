"""How changes wait to be planned."""

from support.objects.model import changes, endpoint_slice, gone, service

from nfproxy.daemon.unplanned import Unplanned
from nfproxy.model.addresses import Family
from nfproxy.model.changes import Changes
from nfproxy.model.endpoints import EndpointSlice
from nfproxy.model.service import ObjectName, Service

WEB = ObjectName("default", "web")
SLICE = endpoint_slice("web", "10.244.1.1")


def named(*names: str) -> list[Service | EndpointSlice]:
    """Return a Service and a slice for each name."""
    return [made for name in names for made in (service(name), endpoint_slice(name, "10.1.1.1"))]


def taken(batch: Changes) -> list[str]:
    """Return the Services of a batch; each has its slice with it."""
    assert {piece.service for piece in batch.slices.values() if piece} == {*batch.services}
    return [name.name for name in batch.services]


def test_a_small_batch_is_planned_as_it_is() -> None:
    """Nothing waits."""
    unplanned = Unplanned(lambda _: None)
    batch = changes(*named("a", "b"))

    assert unplanned.take(batch, 4) is batch
    assert len(unplanned) == 0
    assert not unplanned.take(Changes(), 4)


def test_a_large_batch_is_taken_in_parts_and_a_small_one_goes_first() -> None:
    """With what the large one has for the same Service, in its last version."""
    unplanned = Unplanned(lambda _: None)
    assert taken(unplanned.take(changes(*named("a", "b", "c", "d", "e")), 2)) == ["a", "b"]
    assert len(unplanned) == 3
    newer = endpoint_slice("d", "10.1.1.2")
    batch = unplanned.take(changes(newer, *named("x")), 2)

    assert sorted(taken(batch)) == ["d", "x"]
    assert batch.slices[newer.name] is newer
    assert taken(unplanned.take(Changes(), 2)) == ["c", "e"]
    assert not unplanned.take(Changes(), 2)


def test_slices_go_with_the_service_that_has_them() -> None:
    """A deleted slice with its last owner; one that changes its Service with the new one."""
    owners = {SLICE.name: WEB}
    unplanned = Unplanned(owners.get)
    moved = endpoint_slice("other", "10.244.1.1", name=SLICE.name.name)
    unplanned.take(changes(*named("a", "b"), SLICE), 1)
    unplanned.take(changes(*named("c"), moved), 1)
    rest = [unplanned.take(Changes(), 1) for _ in range(4)]

    assert [batch.slices.get(SLICE.name) for batch in rest if SLICE.name in batch.slices] == [moved]
    unplanned.take(changes(*named("a", "b")), 1)
    assert unplanned.take(gone(SLICE), 1).slices == {SLICE.name: None}


def test_everything_else_is_taken_at_once() -> None:
    """And trigger times go with their Service."""
    unplanned = Unplanned(lambda _: None)
    times = {ObjectName("default", "b"): ((Family.IPV4, 1.0),)}
    batch = changes(*named("a", "b"))
    first = unplanned.take(
        Changes(batch.services, batch.slices, {"cidr": None}, None, True, times), 1
    )

    assert (first.service_cidrs, first.node_gone, first.triggers) == ({"cidr": None}, True, {})
    assert unplanned.take(Changes(), 1).triggers == times
