"""The same properties in a real kernel: fewer examples, and a third road, `nft -f`."""

from hypothesis import example, given
from hypothesis import strategies as st
from support.kernel.real import RealKernel
from support.kernel.tables import differences, dump, meaning, program
from support.properties.clusters import (
    Population,
    Put,
    Reconfigure,
    Remove,
    Restart,
    Step,
    calm_steps,
    configs,
    settlements,
)
from support.properties.profiles import examples
from support.properties.walks import Walk

from nfproxy.model.addresses import FAMILIES, Prefix, parse_prefix
from nfproxy.model.node import ServiceCIDR
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.nft import schema
from nfproxy.tools.lab import Lab

CONFIG = NodeConfig(node_name="node-1")

steps = st.one_of(
    calm_steps, calm_steps, st.builds(Reconfigure, config=configs), st.just(Restart())
)
histories = st.builds(
    lambda first, rest: [first, *rest], settlements, st.lists(steps, min_size=3, max_size=12)
)


def everything(population: Population) -> Remove:
    """Return the deletion of all objects."""
    return Remove(tuple(population.services), tuple(population.slices), tuple(population.cidrs))


@given(histories, configs)
@examples(8)
def test_run_restart_and_render_make_the_same_tables(
    lab: Lab, history: list[Step], config: NodeConfig
):
    """
    A history of changes, a first start and `nft -f` of the render: elements and rules are equal.

    The slots of the last two are, too; those of the first are the same up to their order.
    """
    namespaces = [lab.namespace(name) for name in ("changed", "fresh", "loaded")]
    changed, fresh, loaded = (RealKernel(namespace) for namespace in namespaces)
    try:
        walk = Walk(changed, config)
        for step in history:
            walk.take(step)
        walk.finish()
        start = Walk(fresh, walk.config)
        start.settle(walk.population)
        loaded.namespace.run(["nft", "-f", "-"], input=walk.script())

        assert differences(meaning(fresh), meaning(changed)) == []
        assert dump(fresh) == dump(loaded)
        assert program(fresh) == program(changed) == program(loaded)
        can_be_taken_over(Walk(loaded, walk.config), walk.population)
    finally:
        for kernel, namespace in zip((changed, fresh, loaded), namespaces, strict=True):
            kernel.close()
            lab.drop(namespace)


def can_be_taken_over(walk: Walk, population: Population) -> None:
    """What `nft -f` wrote is left as it is, and can be removed element by element."""
    walk.population = population
    touched = walk.planner.apply(population.since(Population()))
    report = walk.reconciler.sync(touched)
    assert (report.operations, report.resynced) == (0, True)

    walk.take(everything(population))
    walk.finish()
    empty = {f"{f.table} {name}": {} for f in FAMILIES for name in schema.SCHEMAS}
    left = meaning(walk.kernel)
    for family in FAMILIES:
        for name in (schema.NODE_PORT_ADDRESSES, schema.EQUAL_HASHES):  # the node's, not objects'
            del left[f"{family.table} {name}"]
            del empty[f"{family.table} {name}"]
    assert left == empty


RANGES = st.lists(
    st.sampled_from(
        [
            *("10.96.0.0/16", "10.97.0.0/16", "10.96.0.0/12", "10.97.0.0/24", "10.96.255.255/32"),
            *("0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1", "255.255.255.255/32", "240.0.0.0/4"),
            *("::/0", "8000::/1", "fd00:96::/112", "fd00:96::1:0/112", "ffff::/16"),
        ]
    ),
    unique=True,
    max_size=4,
).map(lambda texts: tuple(map(parse_prefix, texts)))


@given(st.lists(RANGES, min_size=1, max_size=5))
@example([(parse_prefix("10.96.0.0/16"), parse_prefix("10.97.0.0/24"))])
@example([(parse_prefix("0.0.0.0/0"), parse_prefix("::/0")), ()])
@examples(12)
def test_ranges_are_the_same_on_every_road(lab: Lab, lists: list[tuple[Prefix, ...]]):
    """Adjacent ranges, all addresses, the highest one: written, listed, taken over and removed."""
    namespaces = [lab.namespace(name) for name in ("changed", "loaded")]
    changed, loaded = (RealKernel(namespace) for namespace in namespaces)
    try:
        walk = Walk(changed, CONFIG)
        for prefixes in lists:
            walk.take(Put((ServiceCIDR("kubernetes", prefixes),)))
        walk.finish()
        loaded.namespace.run(["nft", "-f", "-"], input=walk.script())

        assert dump(loaded) == dump(changed)
        can_be_taken_over(Walk(loaded, CONFIG), walk.population)
        walk.take(everything(walk.population))
        assert not changed.elements(FAMILIES[0], schema.SERVICE_CIDRS)
    finally:
        for kernel, namespace in zip((changed, loaded), namespaces, strict=True):
            kernel.close()
            lab.drop(namespace)
