"""Chains in nft texts that fit the kernel's buffer."""

from __future__ import annotations

import pytest

from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.model.nodeconfig import ProgramConfig
from nfproxy.model.service import Protocol
from nfproxy.nft import ruleset
from nfproxy.nft.chains import Policy, Shape
from nfproxy.reconcile.chaintexts import load_texts, of_family

CONFIG = ProgramConfig()
SHAPES = [Shape(Policy.CLUSTER, Protocol.TCP, cluster=number) for number in range(1, 41)]
CHAINS = {(family, one.name): one for family in FAMILIES for one in SHAPES}


def whole(chains):
    """Return the program of both families, with some chains."""
    return "".join(ruleset.program_text(CONFIG, f, of_family(chains, f)) for f in FAMILIES)


def test_without_a_limit_there_is_one_text():
    assert [*load_texts(CHAINS, CONFIG, whole, None)] == [whole(CHAINS)]
    assert [*load_texts({}, CONFIG, whole, None)] == [whole({})]


@pytest.mark.parametrize("limit", [1, 100_000, 212_480, 10_000_000])
def test_with_a_limit_each_chain_is_in_one_text(limit):
    """The program comes first, whatever the limit: chains belong into a table."""
    first, *others = load_texts(CHAINS, CONFIG, whole, limit)

    assert first.startswith(whole({})[:100])
    for family, name in CHAINS:
        line = f"add chain {family.table} nfproxy {name}\n"
        assert sum(text.count(line) for text in (first, *others)) == 1
    for text in (first, *others):
        assert 4.4 * len(text) <= limit or text.count("add chain") <= 1 or text == first
    # The bound leaves little of a buffer unused.
    needed = 4.4 * sum(map(len, (first, *others)))
    assert len(others) <= max(1, 2 * needed / limit)


def test_no_chain_is_a_program_alone():
    assert [*load_texts({}, CONFIG, whole, 1)] == [whole({})]
    assert Family.IPV6.table in whole({})
