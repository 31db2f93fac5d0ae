"""Who gets what several Services ask for."""

from support.objects.model import changes, endpoint_slice, gone, service

from nfproxy.model.addresses import Family, parse_address, parse_prefix
from nfproxy.model.changes import Changes
from nfproxy.model.node import ServiceCIDR
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.model.service import ObjectName, Protocol
from nfproxy.nft import schema
from nfproxy.plan.frontends import FrontendKey, SharedElement
from nfproxy.plan.planner import Planner

SHARED = FrontendKey(Family.IPV4, parse_address("198.51.100.7"), Protocol.TCP, 80)
OLDER = service(
    "older", cluster_ips=("10.96.0.1",), external_ips=("198.51.100.7",), created="2026-01-01"
)
YOUNGER = service(
    "younger", cluster_ips=("10.96.0.2",), external_ips=("198.51.100.7",), created="2026-01-02"
)


def planner(*objects) -> Planner:
    made = Planner(NodeConfig(node_name="node-1"))
    made.apply(changes(*objects))
    return made


def holder(made: Planner, key: FrontendKey = SHARED) -> str:
    return made.desired.frontends[key].claim.service.name


def test_the_older_service_gets_a_frontend_whatever_came_first():
    """The order of events does not matter."""
    for order in ((OLDER, YOUNGER), (YOUNGER, OLDER)):
        made = planner()
        for each in order:
            made.apply(changes(each))
        assert holder(made) == "older"


def test_the_loser_is_named_with_the_field_that_asks():
    """One line for an operator. The loser keeps its other frontends."""
    made = planner(OLDER, YOUNGER)
    (conflict,) = made.desired.conflicts()

    assert (conflict.winner.name, conflict.loser.name) == ("older", "younger")
    assert holder(made, SHARED._replace(address=parse_address("10.96.0.2"))) == "younger"


def test_the_loser_takes_over_when_the_winner_leaves():
    """Only this frontend is touched, apart from the winner's own."""
    made = planner(OLDER, YOUNGER)
    touched = made.apply(gone(OLDER))

    assert holder(made) == "younger"
    assert SHARED in touched.frontends
    assert SHARED._replace(address=parse_address("10.96.0.2")) not in touched.frontends
    assert not list(made.desired.conflicts())


def test_a_claim_that_loses_touches_nothing_of_the_winner():
    """A new Service does not change what an older one has."""
    made = planner(OLDER)
    touched = made.apply(changes(YOUNGER))

    assert SHARED not in touched.frontends


def test_a_loser_that_changes_or_leaves_does_not_touch_the_winner():
    """A change of the loser's endpoints does not matter to the kernel."""
    made = planner(OLDER, YOUNGER)
    changed = made.apply(changes(endpoint_slice("younger", "10.244.1.5")))
    left = made.apply(gone(YOUNGER))

    assert SHARED not in changed.frontends | left.frontends
    assert holder(made) == "older"


def test_of_three_the_next_oldest_follows():
    """Claims are kept until their Services drop them."""
    third = service(
        "third", cluster_ips=("10.96.0.3",), external_ips=("198.51.100.7",), created="2026-01-03"
    )
    made = planner(third, YOUNGER, OLDER)

    assert len(list(made.desired.conflicts())) == 2
    made.apply(gone(OLDER))
    assert holder(made) == "younger"
    made.apply(gone(YOUNGER))
    assert holder(made) == "third"
    made.apply(gone(third))
    assert SHARED not in made.desired.frontends


def test_a_shared_element_stays_until_no_service_asks_for_it():
    """Two Services may claim one cluster IP for a moment, where one replaces the other."""
    older, younger = (service(name, cluster_ips=["10.96.0.7"]) for name in ("older", "younger"))
    address = SharedElement(Family.IPV4, schema.CLUSTER_IPS, parse_address("10.96.0.7"))
    made = planner(older, younger)

    assert address not in made.apply(gone(older)).shared_elements
    assert address in made.desired.shared_elements
    assert address in made.apply(gone(younger)).shared_elements
    assert address not in made.desired.shared_elements


def test_a_slice_may_come_before_its_service_and_change_its_service():
    """The API gives no order between the two, and a label may be edited."""
    key = SHARED._replace(address=parse_address("10.96.0.1"))
    piece = endpoint_slice("older", "10.244.1.5", name="piece")
    made = planner(piece)
    made.apply(changes(OLDER))
    assert made.desired.frontends[key].verdict == schema.goto("cluster-tcp-1")

    touched = made.apply(changes(endpoint_slice("younger", "10.244.1.5", name="piece")))
    assert made.desired.frontends[key].verdict == schema.goto("reject-connection")
    assert key in touched.frontends


def test_what_did_not_change_is_not_touched():
    """The same objects again touch nothing, and a slice touches its Service alone."""
    made = planner(OLDER, YOUNGER, endpoint_slice("older", "10.244.1.5"))

    assert not made.apply(changes(OLDER, YOUNGER))
    touched = made.apply(changes(endpoint_slice("older", "10.244.1.6")))
    assert {made.desired.frontends[key].claim.service.name for key in touched.frontends} == {
        "older"
    }


def test_service_cidrs_of_all_objects_are_joined():
    """One object's range may lie in another's."""
    made = planner()
    wide, narrow = parse_prefix("10.96.0.0/12"), parse_prefix("10.97.0.0/16")
    made.apply(Changes(service_cidrs={"a": ServiceCIDR("a", (wide,))}))
    touched = made.apply(Changes(service_cidrs={"b": ServiceCIDR("b", (narrow,))}))

    assert not touched
    touched = made.apply(Changes(service_cidrs={"a": None}))
    assert {m.key for m in touched.shared_elements} == {
        schema.prefix_key(wide),
        schema.prefix_key(narrow),
    }
    ranges = {e.key for e in made.desired.shared_elements if e.set == schema.SERVICE_CIDRS}
    assert ranges == {schema.prefix_key(narrow)}


def test_another_configuration_touches_what_it_changes():
    """The same configuration again touches nothing."""
    made = planner(OLDER, endpoint_slice("older", "10.244.1.5"))

    assert not made.apply(made.reconfigure(NodeConfig(node_name="node-1")))
    touched = made.apply(made.reconfigure(NodeConfig(node_name="node-1", external_ips=False)))
    assert touched.frontends.keys() == {SHARED}
    assert made.services[ObjectName("default", "older")] == OLDER
