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


def whole(families, chains):
    """Return the program of some families, with some chains."""
    return "".join(ruleset.program_text(CONFIG, f, of_family(chains, f)) for f in families)


def texts(chains, limit):
    return [*load_texts(chains, CONFIG, whole, FAMILIES, limit)]


def test_without_a_limit_there_is_one_text():
    assert texts(CHAINS, None) == [whole(FAMILIES, CHAINS)]
    assert texts({}, None) == [whole(FAMILIES, {})]


@pytest.mark.parametrize("limit", [1, 100_000, 212_480, 10_000_000])
def test_with_a_limit_each_chain_is_in_one_text(limit):
    """A family's program comes first, whatever the limit: chains belong into a table."""
    found = texts(CHAINS, limit)

    firsts = [text for text in found if "map frontends {" in text]
    assert [text[:100] for text in firsts] == [whole([f], {})[:100] for f in FAMILIES]
    assert found[0] == firsts[0]
    for family, name in CHAINS:
        line = f"add chain {family.table} nfproxy {name}\n"
        assert sum(text.count(line) for text in found) == 1
    for text in found:
        assert 4.4 * len(text) <= limit or text.count("add chain") <= 1 or text in firsts
    # The bound leaves little of a buffer unused.
    needed = 4.4 * sum(map(len, found))
    assert len(found) - len(FAMILIES) <= max(1, 2 * needed / limit)


def test_no_chain_is_a_program_alone():
    assert texts({}, 1) == [whole([f], {}) for f in FAMILIES]


def test_over_large_maps_few_chains_are_in_one_text():
    """The kernel checks the elements of a map for each new rule that looks them up."""

    def seventh(family: Family, text: str) -> float:
        assert text.count("add chain") == 1
        assert family.table in text
        return 1 / 7.5

    found = [*load_texts(CHAINS, CONFIG, whole, FAMILIES, None, share=seventh)]

    names = [{name for _, name in CHAINS if f" nfproxy {name}\n" in text} for text in found]
    assert max(map(len, names)) == 7
    assert sum(map(len, names)) == len(CHAINS)
