"""What holds for every cluster and every history, with a kernel in memory."""

import random
import time
from unittest import mock

import pytest
from hypothesis import given, seed
from hypothesis import strategies as st
from support.kernel.fake import FakeKernel, add_element
from support.kernel.tables import differences, dump, meaning, program
from support.properties.clusters import Population, Put, Restart, Step, configs, wild_histories
from support.properties.profiles import examples
from support.properties.walks import Walk, WatchedWalk

from nfproxy.errors import TransactionError
from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.nft import schema
from nfproxy.nft.schema import Interval
from nfproxy.plan.desired import Touched
from nfproxy.reconcile import tracker
from nfproxy.reconcile.costs import Costs

#: They compute for half a minute; on a machine that others use, several times as long.
pytestmark = pytest.mark.timeout(600)

#: How a walk goes: how long a transaction takes, whether the daemon tidies between planning and
#: synchronising, and after how many operations a change goes on in the next transaction.
Manner = tuple[float, bool, int]
manners = st.tuples(st.sampled_from([0.0, 0.3]), st.booleans(), st.sampled_from([1, 3, 8, 20_000]))


def walked(
    steps: list[Step], config: NodeConfig, manner: Manner = (0.0, False, 20_000)
) -> WatchedWalk:
    """Walk to the end of a history. The model of packets objects on the way."""
    commit_s, eager, most = manner
    walk = WatchedWalk(config, commit_s=commit_s, eager=eager)
    with mock.patch.object(tracker, "TRANSACTION_S", most * Costs().operation_s * 1.01):
        for step in steps:
            walk.take(step)
        walk.finish()
    return walk


def fresh(population: Population, config: NodeConfig) -> FakeKernel:
    """Return a kernel that knows only a history's last objects."""
    start = Walk(FakeKernel(), config)
    start.settle(population)
    return start.kernel


def ends_like_a_fresh_start(walk: WatchedWalk) -> None:
    """Compare with a fresh start, and with what `render` prints."""
    other = fresh(walk.population, walk.config)
    rendered = FakeKernel()
    rendered.load(walk.script())

    assert differences(meaning(other), meaning(walk.kernel)) == []
    assert program(other) == program(walk.kernel)
    assert dump(other) == dump(rendered)
    assert program(other) == program(rendered)


@given(wild_histories, configs, manners)
@examples(60)
def test_any_history_ends_like_a_fresh_start(steps: list[Step], config: NodeConfig, manner: Manner):
    """
    Whatever changed and failed on the way, elements and rules end up as after a fresh start.

    On the way no packet is lost: see ``support.properties.packetmodel``, which looks after each
    transaction.
    """
    ends_like_a_fresh_start(walked(steps, config, manner))


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_many_more_histories_end_like_a_fresh_start(soak_s: float):
    """The same for as long as ``--soak`` says."""
    seeds = random.Random(time.time_ns())
    until = time.monotonic() + soak_s
    while time.monotonic() < until:

        @given(wild_histories, configs, manners)
        @examples(50)
        def once(steps: list[Step], config: NodeConfig, manner: Manner) -> None:
            ends_like_a_fresh_start(walked(steps, config, manner))

        seed(seeds.getrandbits(64))(once)()


@given(wild_histories, configs)
@examples(30)
def test_syncing_what_is_in_force_commits_nothing(steps: list[Step], config: NodeConfig):
    """The same objects again, and a new process over the tables of the old: no element changes."""
    walk = walked(steps, config)
    kernel = walk.kernel
    before, held = kernel.transactions, dump(kernel)
    walk.take(Put(walk.population.all()))
    report = walk.sync(Touched())

    assert report is not None
    assert (report.operations, report.chains_made, report.resynced) == (0, 0, False)
    assert kernel.transactions == before

    operations = kernel.operations
    walk.take(Restart())
    assert kernel.operations == operations
    assert dump(kernel) == held


@given(wild_histories, configs, st.data())
@examples(50)
def test_whatever_a_stranger_did_is_undone(
    steps: list[Step], config: NodeConfig, data: st.DataObject
):
    """After elements were deleted, changed and added behind its back, a takeover repairs all."""
    walk = walked(steps, config)
    for _ in range(data.draw(st.integers(1, 6), label="how many things a stranger does")):
        meddle(walk.kernel, data)
    walk.kernel.watch = lambda: None  # packets are lost already
    walk.take(Restart())
    walk.finish()

    other = fresh(walk.population, walk.config)
    assert differences(meaning(other), meaning(walk.kernel)) == []
    assert program(other) == program(walk.kernel)


def meddle(kernel: FakeKernel, data: st.DataObject) -> None:
    """Delete, change or move an element, as a stranger might."""
    places = [(family, name) for family in FAMILIES for name in schema.SCHEMAS]
    full = [(f, n) for f, n in places if kernel.tables[f].elements[n]]
    if not full:
        return
    family, name = data.draw(st.sampled_from(full))
    elements = kernel.tables[family].elements[name]
    key = data.draw(st.sampled_from(sorted(elements)))
    others = sorted(set(elements.values()) - {elements[key]}, key=repr)
    match data.draw(st.sampled_from(["delete", "change", "copy"])):
        case "delete":
            del elements[key]
        case "change" if others:
            elements[key] = data.draw(st.sampled_from(others))
        case "copy" if schema.SCHEMAS[name].interval is Interval.NO:
            at = data.draw(st.integers(0, len(key) - 1))
            copied_to = key[:at] + bytes([data.draw(st.integers(0, 255))]) + key[at + 1 :]
            if at % 4 < 2:  # the rest of a field may be padding, which is always zero
                put(kernel, family, name, copied_to, elements[key])
        case _:
            return


def put(kernel: FakeKernel, family: Family, name: str, key: bytes, value: schema.Value) -> None:
    try:
        add_element(kernel.tables[family], name, key, value)
    except TransactionError:
        return
