"""What holds for every script that `render` prints."""

import random

from hypothesis import given
from hypothesis import strategies as st
from support.kernel.fake import FakeKernel
from support.properties.clusters import CLUSTER_IPS, Object, Population, configs, populations
from support.properties.profiles import examples

from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.model.changes import Changes
from nfproxy.model.endpoints import Endpoint, EndpointSlice, SlicePort
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.model.service import ObjectName, Protocol, Service, ServicePort
from nfproxy.plan.planner import Planner
from nfproxy.reconcile.script import script


def rendered(config: NodeConfig, *batches: Changes) -> str:
    planner = Planner(config)
    for batch in batches:
        planner.apply(batch)
    return script(planner.desired, config.program, FAMILIES)


def batch(objects: list[Object]) -> Changes:
    return Population().put(objects).since(Population())


@given(populations(), configs, st.randoms(use_true_random=False))
@examples(60)
def test_objects_in_any_order_give_the_same_bytes(
    population: Population, config: NodeConfig, order: random.Random
):
    """All at once or one by one, slices before Services, shuffled: one text."""
    objects = list(population.all())
    expected = rendered(config, batch(objects))
    order.shuffle(objects)

    assert expected == rendered(config, batch(objects))
    assert expected == rendered(config, *(batch([o]) for o in objects))


@given(populations(), configs)
@examples(50)
def test_the_script_applies_to_any_starting_state(population: Population, config: NodeConfig):
    """Onto no table, onto itself, and onto the tables of other objects."""
    text = rendered(config, batch(list(population.all())))
    kernel = FakeKernel()
    kernel.load(text)
    once = kernel.tables
    kernel.load(text)

    assert once == kernel.tables


MARK = "§"
names = st.text(max_size=20).map(lambda text: f'{MARK}";\nflush ruleset # {text}')


@given(names, names, names, names)
@examples(50)
def test_no_text_of_an_object_reaches_the_script(
    namespace: str, name: str, port_name: str, node: str
):
    """Names are hashed or left out: even one that was never checked cannot become a command."""
    config = NodeConfig(node_name=node, zone=name)
    service = Service(
        name=ObjectName(namespace, name),
        created=namespace,
        cluster_ips=tuple(CLUSTER_IPS[family][0] for family in FAMILIES),
        ports=(ServicePort(port_name, Protocol.TCP, 80, 30001),),
        affinity_timeout_s=30,
    )
    piece = EndpointSlice.of(
        name=ObjectName(namespace, name),
        service=service.name,
        family=Family.IPV4,
        ports=(SlicePort(port_name, Protocol.TCP, 8080),),
        endpoints=(Endpoint(b"\x0a\xf4\x01\x01", node=node, zone_hints=(name,)),),
    )
    text = rendered(config, batch([service, piece]))

    assert "jump affinity-" in text
    assert MARK not in text
    assert "flush ruleset" not in text
