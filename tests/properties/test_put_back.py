"""Foreign changes of elements are undone by reading only what they touched."""

import random

from hypothesis import given
from hypothesis import strategies as st
from support.kernel.fake import FakeKernel
from support.kernel.tables import dump
from support.properties.clusters import Step, configs, wild_histories
from support.properties.profiles import examples
from support.properties.walks import WatchedWalk

from nfproxy.model.addresses import Family
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.nft import schema
from nfproxy.nft.schema import DROP, SCHEMAS, Interval, Value, Verdict
from nfproxy.reconcile.extent import Extent


def change_elements(kernel: FakeKernel, chance: random.Random, changes: int) -> Extent:
    """Delete, replace and add elements as other processes do; return what that touched."""
    extent = Extent()
    for _ in range(changes):
        family, table = chance.choice(sorted(kernel.tables.items()))
        filled = sorted(name for name, held in table.elements.items() if held and name in SCHEMAS)
        name = chance.choice(filled)
        held = table.elements[name]
        key = chance.choice(sorted(held))
        is_range = SCHEMAS[name].interval is not Interval.NO
        match chance.choice(["delete"] if is_range else ["delete", "replace", "add"]):
            case "delete":
                del held[key]
            case "replace":
                held[key] = _other(held[key])
            case "add":
                value = held[key]
                key = key[:-1] + bytes((chance.randrange(256),))
                held.setdefault(key, value)
        extent.add_elements(family, name, [key])
    return extent


def _other(value: Value) -> Value:
    if isinstance(value, Verdict):
        return DROP
    return value and value[::-1]


@given(wild_histories, configs, st.integers(0, 1 << 32), st.integers(1, 30))
@examples(40)
def test_elements_get_back_what_they_had(
    steps: list[Step], config: NodeConfig, seed: int, changes: int
) -> None:
    """Whatever they were; no set is read but those of ranges, and the rest is not asked for."""
    walk = WatchedWalk(config)
    for step in steps:
        walk.take(step)
    walk.finish()
    before, kernel = dump(walk.kernel), walk.kernel
    extent = change_elements(kernel, random.Random(seed), changes)
    kernel.reads = kernel.asked = 0
    ranges = {at for at in extent.elements if SCHEMAS[at[1]].interval is not Interval.NO}
    report = walk.reconciler.put_back(extent)

    assert (kernel.reads, kernel.asked <= changes) == (len(ranges), True)
    assert dump(kernel) == before
    assert report.is_partial
    assert report.operations <= 2 * changes
    assert walk.reconciler.put_back(extent).operations == 0


def test_another_name_of_a_chain_is_noticed_at_the_verdicts() -> None:
    """The elements that lead to a chain name it otherwise then, and no element was changed."""
    extent = Extent()
    extent.include(Extent(rules=True, chains=True))
    assert extent.chains
    assert {schema.FRONTENDS, schema.NODE_PORTS} <= {
        name for name, one in SCHEMAS.items() if one.verdicts
    }


def test_very_many_elements_are_not_remembered() -> None:
    """Reading their set is as fast then; elements of other sets are still known."""
    extent, family = Extent(), Family.IPV4
    extent.add_elements(family, schema.FRONTENDS, [b"one"])
    for number in range(5000):
        extent.add_elements(family, schema.CLUSTER_IPS, [number.to_bytes(4, "big")])

    assert extent == Extent({(family, schema.FRONTENDS): {b"one"}}, {(family, schema.CLUSTER_IPS)})


@given(wild_histories, configs, st.integers(0, 1 << 32))
@examples(40)
def test_whole_sets_and_tables_get_back_what_they_had(
    steps: list[Step], config: NodeConfig, seed: int
) -> None:
    """Some flushed, some with elements of others, some gone with their table."""
    walk, chance = WatchedWalk(config), random.Random(seed)
    for step in steps:
        walk.take(step)
    walk.finish()
    before, kernel, extent = dump(walk.kernel), walk.kernel, Extent()
    for family in [*kernel.tables]:
        if chance.random() < 0.4:
            del kernel.tables[family]
            extent.add_table(family)
            continue
        for name, held in kernel.tables[family].elements.items():
            if name in SCHEMAS and chance.random() < 0.5:
                extent.add_set(family, name)
                for key in [*held]:
                    match chance.randrange(3):
                        case 0:
                            del held[key]
                        case 1 if SCHEMAS[name].interval is Interval.NO:
                            held[key] = _other(held[key])
                        case 2 if SCHEMAS[name].interval is Interval.NO:
                            held.setdefault(key[:-1] + bytes((chance.randrange(256),)), held[key])
    kernel.watch = lambda: None  # what is left of the tables answers wrongly until the end
    report = walk.reconciler.put_back(extent)

    assert dump(kernel) == before
    assert report.is_partial
    assert not report.left
    assert walk.reconciler.put_back(extent).operations == 0
