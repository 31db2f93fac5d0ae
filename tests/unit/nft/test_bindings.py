"""How many rules look into one map: the kernel goes through all of them for each new element."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence

import pytest

from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.model.service import Protocol
from nfproxy.nft.chains import (
    AffinityList,
    Chain,
    Draw,
    FindChain,
    Policy,
    RecordChain,
    list_number,
)
from nfproxy.nft.ruleset import chain_text

CONFIG = NodeConfig(node_name="node-1").program
PORTS, MAPS = 320, 16


def sticky(port: str, protocol: Protocol) -> Sequence[Chain]:
    """Return the chains of a service port with session affinity."""
    lists = tuple(AffinityList(port, which) for which in ("local", "cluster"))
    find = FindChain(port, protocol, Policy.LOCAL)
    return (find, RecordChain(port, protocol, lists, 10800))


def sharing(port: str, protocol: Protocol) -> Sequence[Chain]:
    """Return the chains of a service port whose frontends share a list."""
    return [Draw(list_number(port), protocol, local, 48) for local in (True, False)]


@pytest.mark.parametrize("chains_of", [sticky, sharing])
@pytest.mark.parametrize("protocol", Protocol)
@pytest.mark.parametrize("family", FAMILIES)
def test_service_ports_with_chains_of_their_own_share_maps_with_few_others(
    family: Family, protocol: Protocol, chains_of: Callable[[str, Protocol], Sequence[Chain]]
):
    """So what an element costs hardly depends on how many such ports there are."""
    rules = Counter[str]()
    for number in range(PORTS):
        for chain in chains_of(f"default/web-{number}/{protocol.word}/http", protocol):
            rules.update(re.findall(r"map @(\S+)", chain_text(chain, CONFIG, family)))

    assert max(rules.values()) <= 2 * rules.total() / MAPS
