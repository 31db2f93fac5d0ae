"""The slices of Services that a planner holds, whichever way they came."""

from support.objects.model import changes, endpoint_slice, gone, service

from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.model.service import ObjectName
from nfproxy.plan.planner import Planner

WEB, SHOP = ObjectName("default", "web"), ObjectName("default", "shop")
SLICES = [endpoint_slice("web", f"10.244.1.{n}", name=f"web-{n:02}") for n in range(1, 41)]


def planner() -> Planner:
    made = Planner(NodeConfig(node_name="node-1"))
    made.apply(changes(service(), service("shop", cluster_ips=["10.96.0.2"])))
    return made


def test_many_slices_at_once_come_to_the_same_as_one_by_one():
    """In the order of their names, changed ones in place of the old, without those that go."""
    changed = [endpoint_slice("web", f"10.244.2.{n}", name=f"web-{n:02}") for n in range(5, 30)]
    once, each = planner(), planner()
    for batch in (SLICES[::-1], changed):
        once.apply(changes(*batch))
        for piece in batch:
            each.apply(changes(piece))
    once.apply(gone(*SLICES[:20]))
    for piece in SLICES[:20]:
        each.apply(gone(piece))

    assert once.slices_of(WEB) == each.slices_of(WEB) == (*changed[16:], *SLICES[29:])
    assert once.desired.frontends == each.desired.frontends
    once.apply(gone(*once.slices_of(WEB)))
    assert once.slices_of(WEB) == ()
    assert once.slice_count == 0


def test_slices_that_change_their_service_leave_the_one_before():
    """Also where many do at once."""
    for count in (3, 30):
        made = planner()
        made.apply(changes(*SLICES))
        moved = [
            endpoint_slice("shop", "10.244.3.1", name=piece.name.name) for piece in SLICES[:count]
        ]
        made.apply(changes(*moved))
        assert made.slices_of(SHOP) == tuple(moved)
        assert made.slices_of(WEB) == tuple(SLICES[count:])
        assert made.owner_of(moved[0].name) == SHOP
        made.apply(gone(*moved))
        assert made.slices_of(SHOP) == ()
        assert made.owner_of(moved[0].name) is None
