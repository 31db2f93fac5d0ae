"""From one frontend's elements to another's."""

import pytest
from support.objects.model import endpoint_slice, service

from nfproxy.model.addresses import Family, parse_address
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.model.service import Protocol
from nfproxy.nft import schema
from nfproxy.plan.frontends import Frontend, FrontendKey
from nfproxy.plan.service import plan_service
from nfproxy.reconcile.transition import (
    ABSENT,
    FrontendState,
    Operation,
    arrange,
    clean,
    elements_of,
    transition,
)

V4 = Family.IPV4
KEY = FrontendKey(V4, parse_address("10.96.0.1"), Protocol.TCP, 80)
TCP_SLOTS = schema.ENDPOINTS[Protocol.TCP]


def wanted(*numbers: int) -> Frontend:
    """Return the frontend of a Service with these endpoints, 1 for 10.244.1.1."""
    piece = endpoint_slice("web", *(f"10.244.1.{n}" for n in numbers))
    (frontend,) = plan_service(service(), [piece], NodeConfig(node_name="node-1")).frontends
    return frontend


def state(*numbers: int) -> FrontendState:
    return transition(KEY, ABSENT, wanted(*numbers)).state


def slots(operations: list[Operation]) -> list[tuple[str, int, int]]:
    """Return the slot operations: ("add", slot, endpoint)."""
    return [
        ("add" if o.add else "delete", schema.number_of(o.key, 8), o.value[3] if o.value else 0)
        for o in operations
        if o.set == TCP_SLOTS and (o.value is None or isinstance(o.value, bytes))
    ]


def verdicts(operations: list[Operation]) -> list[str]:
    return [str(o.value) if o.add else "deleted" for o in operations if o.set == schema.FRONTENDS]


@pytest.mark.parametrize(
    ("held", "goal", "result"),
    [
        ("abc", "abc", "abc"),
        ("abc", "cab", "abc"),
        ("abc", "bc", "cb"),
        ("abc", "ab", "ab"),
        ("abc", "abd", "abd"),
        ("ab", "abc", "abc"),
        ("", "ab", "ab"),
        ("abc", "", ""),
        ("aba", "ab", "ab"),
        ("aab", "ab", "ab"),
        ("abcc", "dc", "dc"),
    ],
)
def test_slots_keep_what_is_there_and_wanted(held: str, goal: str, result: str):
    """The last one moves into the hole; lingering slots count for nothing."""
    arranged = arrange([c.encode() for c in held], [c.encode() for c in goal])

    assert result == b"".join(arranged).decode()


def test_a_new_frontends_verdict_is_the_last():
    """No packet reaches slots without a verdict, so many of them may be committed before it."""
    step = transition(KEY, ABSENT, wanted(1, 2))

    assert slots(step.operations) == [("add", 0, 1), ("add", 1, 2)]
    assert verdicts(step.operations[-1:]) == ["goto cluster-tcp-2"]
    assert not step.lingers


def test_a_replaced_endpoint_is_a_delete_and_an_add():
    """The verdict stays, as the count does."""
    step = transition(KEY, state(1, 2), wanted(1, 3))

    assert slots(step.operations) == [("delete", 1, 0), ("add", 1, 3)]
    assert not verdicts(step.operations)
    assert len(step.operations) == 2


def test_growing_adds_a_slot_before_the_verdict_can_draw_it():
    """In one transaction; the order is kept all the same."""
    step = transition(KEY, state(1), wanted(1, 2))

    assert slots(step.operations[:1]) == [("add", 1, 2)]
    assert verdicts(step.operations) == ["deleted", "goto cluster-tcp-2"]
    assert not step.lingers


def test_shrinking_leaves_the_last_slot_in_place():
    """A packet on its way may draw it; `clean` removes it later."""
    step = transition(KEY, state(1, 2, 3), wanted(2, 3))
    later = clean(KEY, step.state)

    assert slots(step.operations) == [("delete", 0, 0), ("add", 0, 3)]
    assert verdicts(step.operations) == ["deleted", "goto cluster-tcp-2"]
    assert step.lingers
    assert slots(later.operations) == [("delete", 2, 0)]
    assert later.state.slot_ranges == (step.state.slot_ranges[0][:2], ())


def test_removing_leaves_all_slots_in_place():
    """The verdict goes at once."""
    step = transition(KEY, state(1, 2), None)
    later = clean(KEY, step.state)

    assert step.operations == [
        Operation(False, V4, schema.FRONTENDS, KEY.address + schema.protocol_bytes(6) + b"\0P\0\0")
    ]
    assert slots(later.operations) == [("delete", 0, 0), ("delete", 1, 0)]
    assert later.state == ABSENT


def test_a_lingering_slot_is_used_again():
    """Growing back overwrites what lingers, if it differs."""
    shrunk = transition(KEY, state(1, 2), wanted(1)).state
    same = transition(KEY, shrunk, wanted(1, 2))
    other = transition(KEY, shrunk, wanted(1, 3))

    assert slots(same.operations) == []
    assert slots(other.operations) == [("delete", 1, 0), ("add", 1, 3)]
    assert not same.lingers


def test_what_the_verdict_draws_is_never_cleaned():
    """Whatever else is wanted by now."""
    step = clean(KEY, state(1, 2, 3))

    assert step.operations == []
    assert step.state == state(1, 2, 3)


def test_what_is_in_force_needs_no_operation():
    """Syncing twice commits nothing."""
    step = transition(KEY, state(1, 2), wanted(2, 1))

    assert step.operations == []


def test_the_elements_of_a_state_are_what_was_committed():
    """They make the same frontend out of nothing."""
    step = transition(KEY, ABSENT, wanted(1, 2))

    assert sorted(elements_of(KEY, step.state)) == sorted(step.operations)


@pytest.mark.parametrize("most", [1, 2, 3, 100])
@pytest.mark.parametrize(
    ("held", "goal"),
    [((), (1, 2, 3, 4)), ((1, 2, 3), (4, 5, 6)), ((1, 2, 3, 4), (4, 3)), ((1,), (3, 2, 1))],
)
def test_a_transition_in_steps_comes_to_the_same(most: int, held: tuple, goal: tuple):
    """No step has many more operations than allowed; the verdict changes in the last one."""
    at = state(*held) if held else ABSENT
    whole = transition(KEY, at, wanted(*goal))
    operations: list[Operation] = []
    while not (step := transition(KEY, at, wanted(*goal), most)).is_whole:
        assert most <= len(step.operations) <= most + 1
        assert not verdicts(step.operations)
        assert step.state.verdict == at.verdict
        operations += step.operations
        at = step.state
    assert operations + step.operations == whole.operations
    assert [list(r) for r in step.state.slot_ranges] == [list(r) for r in whole.state.slot_ranges]


def test_leftovers_go_in_steps_without_gaps():
    """The highest slots first."""
    at, gone = transition(KEY, state(1, 2, 3, 4), None).state, []
    while not (step := clean(KEY, at, most=3)).is_whole:
        at = step.state
        gone += slots(step.operations)
    assert [slot for _, slot, _ in gone + slots(step.operations)] == [1, 2, 3, 0]
    assert step.state == ABSENT or not any(step.state.slot_ranges)
