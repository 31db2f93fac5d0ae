"""The templates in a real kernel: accepted in every variant, and as the schema says."""

import itertools
from collections.abc import Iterator

import pytest
from support.kernel.real import RealKernel

from nfproxy.model.addresses import FAMILIES, Family, parse_prefix
from nfproxy.model.nodeconfig import LocalPods, NodeConfig
from nfproxy.model.service import Protocol
from nfproxy.netlink.nftables import SetRow
from nfproxy.nft import ruleset, schema
from nfproxy.nft.chains import (
    AffinityList,
    Chain,
    Draw,
    FindChain,
    Guard,
    Policy,
    RecordChain,
    Shape,
    parse_shape,
)
from nfproxy.nft.schema import SCHEMAS, Interval

CONFIG = NodeConfig(node_name="node-1")
PREFIXES = {Family.IPV4: parse_prefix("10.0.0.0/8"), Family.IPV6: parse_prefix("fd00::/8")}

CONFIGS = {
    "no detector": CONFIG,
    "prefix": NodeConfig(node_name="n", local_pods=LocalPods(prefixes=PREFIXES)),
    "bridge": NodeConfig(node_name="n", local_pods=LocalPods(bridge="cni0"), masquerade_all=True),
    "interface": NodeConfig(
        node_name="n",
        local_pods=LocalPods(interface_prefix="veth"),
        node_port_prefixes={family: (prefix,) for family, prefix in PREFIXES.items()},
        masquerade_mark=0x8000_0000,
    ),
}


def every_chain() -> Iterator[Chain]:
    """Yield a chain of each kind there is."""
    for protocol, node_port in itertools.product(Protocol, (False, True)):
        yield Shape(Policy.CLUSTER, protocol, 2, 0, node_port)
        yield Shape(Policy.EXTERNAL, protocol, 2, 0, node_port)
        yield Shape(Policy.LOCAL, protocol, 3, 0, node_port)
        yield Shape(Policy.LOCAL, protocol, 3, 2, node_port)
        for shape in (
            Shape(Policy.CLUSTER, protocol, 2, 0, False, False, 7),
            Shape(Policy.LOCAL, protocol, 48, 3, node_port, False, 7),
        ):
            yield from (shape, *shape.draws)
    yield Guard.of("default/web", range(33))
    for protocol in Protocol:
        port = f"default/{protocol.word}"
        for policy in Policy:
            yield FindChain(port, protocol, policy)
        yield FindChain(port, protocol, Policy.CLUSTER, internal_local=True)
        lists = tuple(AffinityList(port, which) for which in ("local", "cluster"))
        yield RecordChain(port, protocol, lists, 1)
        yield RecordChain(f"default/one/{protocol.word}", protocol, lists[1:], 86400)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_kernel_accepts_every_kind_of_chain(real: RealKernel, name: str):
    """
    In both families, for every way to recognise pods; loaded twice, the second time over itself.
    """
    chains = list(every_chain())
    for family in FAMILIES:
        real.load(ruleset.replacement_text(CONFIGS[name].program, family, chains))
        rules = real.rules(family)
        real.load(ruleset.program_text(CONFIGS[name].program, family, chains))

        assert {chain.name for chain in chains} <= rules.keys()
        assert rules == real.rules(family)


def test_every_shape_in_the_kernel_is_read_back_from_its_name(real: RealKernel):
    """The kernel does not cut their names."""
    chains = {chain.name: chain for chain in every_chain() if isinstance(chain, Shape | Draw)}
    shapes = {name: chain for name, chain in chains.items() if isinstance(chain, Shape)}
    real.load(ruleset.program_text(CONFIG.program, Family.IPV4, chains.values()))
    found = {chain.name: parse_shape(chain.name) for chain in real.chains(Family.IPV4)}

    assert shapes == {name: shape for name, shape in found.items() if shape is not None}


# linux/netfilter/nf_tables.h: NFT_SET_*
_INTERVAL, _MAP, _TIMEOUT, _EVAL, _CONCAT = 0x4, 0x8, 0x10, 0x20, 0x80


def sets_in_kernel(real: RealKernel, family: Family) -> dict[str, SetRow]:
    """Return each set, by name."""
    return {row.name: row for row in real.kernel._netlink.sets(family, schema.TABLE)}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_schema_is_what_the_kernel_made_of_the_template(real: RealKernel, family: Family):
    """The same sets, with the same key and value lengths, verdicts, ranges and timeouts."""
    real.load(ruleset.table_text(CONFIG.program, family))
    found = sets_in_kernel(real, family)

    assert list(SCHEMAS) == list(found)
    for name, expected in SCHEMAS.items():
        row = found[name]
        flags = row.flags
        assert row.key_length == schema.length(expected.key, family), name
        assert bool(flags & _MAP) == (expected.value is not None), name
        assert row.has_verdicts == expected.verdicts, name
        if expected.value:
            assert row.data_length == schema.length(expected.value, family), name
        assert bool(flags & _INTERVAL) == (expected.interval is not Interval.NO), name
        assert not flags & (_EVAL | _TIMEOUT), name
        if expected.interval is not Interval.NO:
            assert not flags & _CONCAT, name  # pipapo, which copies itself for each commit
