"""Tables, chains, sets and rules as typed rows, listed from a real kernel."""

import pytest
from support.kernel.real import RealKernel

from nfproxy.errors import TransactionError
from nfproxy.model.addresses import Family
from nfproxy.netlink.messages import attribute, string
from nfproxy.netlink.nftables import (
    TABLE_NAME,
    ChainRow,
    Hook,
    TableRow,
    delete_chain,
    delete_rule,
    delete_table,
    expressions_of,
    flush_chain,
)
from nfproxy.netlink.sockets import NftSocket
from nfproxy.nft.schema import DROP

RULESET = """\
table ip one {
    set ports {
        type inet_service
    }
    map targets {
        typeof ip daddr : verdict
    }
    chain first {
        tcp dport { 80, 81 } counter accept comment "web"
        jump second
    }
    chain second {
    }
    chain hooked {
        type nat hook output priority -100; policy drop;
    }
}
table inet two {
    flags dormant
    chain filtering {
        type filter hook forward priority 10;
    }
}
table bridge three {
    chain bridging {
        type filter hook forward priority 0;
    }
}
"""
IP, INET, BRIDGE = Family.IPV4, 1, 7


@pytest.fixture
def netlink(real: RealKernel):
    """A socket in a namespace with some tables."""
    real.load(RULESET)
    with real.namespace.call(NftSocket) as opened:
        yield opened


def test_tables_of_every_family_are_listed(netlink: NftSocket):
    """Or those of one family. A dormant table is marked."""
    assert set(netlink.tables()) == {
        TableRow(IP, "one", False),
        TableRow(INET, "two", True),
        TableRow(BRIDGE, "three", False),
    }
    assert netlink.tables(IP) == [TableRow(IP, "one", False)]


@pytest.mark.parametrize(
    ("flags", "dormant", "orphan"),
    [(0, 0, 0), (1, 1, 0), (2, 0, 0), (4, 0, 1), (6, 0, 0), (5, 1, 1)],
)
def test_a_table_that_outlived_its_owner_is_marked(flags: int, dormant: int, orphan: int):
    """It has the flag persist, and no longer the flag owner."""
    data = bytes((IP, 0, 0, 0)) + string(TABLE_NAME, "one")
    row = TableRow.read(data + attribute(2, flags.to_bytes(4, "big")))
    assert row == TableRow(IP, "one", bool(dormant), is_orphan=bool(orphan))


def test_chains_have_hook_and_policy(netlink: NftSocket):
    """A regular chain has neither. The name of the hook is for the IP families."""
    chains = {chain.name: chain for chain in netlink.chains()}

    assert chains["first"] == ChainRow(IP, "one", "first", None, None)
    assert chains["hooked"] == ChainRow(IP, "one", "hooked", Hook("nat", 3, -100), DROP.code)
    assert [chains[name].ip_hook for name in ("first", "hooked", "filtering", "bridging")] == [
        *("", "output", "forward", "")
    ]
    assert [chain.name for chain in netlink.chains(INET, "two")] == ["filtering"]
    assert netlink.chains(IP, "absent") == []


def test_only_named_sets_are_listed(netlink: NftSocket):
    """The set { 80, 81 } is part of a rule."""
    rows = {row.name: row for row in netlink.sets(IP, "one")}

    assert rows.keys() == {"ports", "targets"}
    assert [(row.key_length, row.has_verdicts) for row in rows.values()] == [(2, False), (4, True)]


def test_rules_are_listed_by_chain_and_deleted_by_handle(netlink: NftSocket):
    """Their expressions have names and attributes."""
    web, jump = netlink.rules(IP, "one")
    assert (web.chain, jump.chain) == ("first", "first")
    assert [name for name, _ in expressions_of(jump)] == ["immediate"]
    assert [name for name, _ in expressions_of(web)][-2:] == ["counter", "immediate"]
    assert b"web" in web.userdata

    netlink.commit([delete_rule(IP, "one", "first", web.handle)])
    assert list(netlink.rules(IP, "one", "first")) == [jump]


def test_requests_of_one_transaction_succeed_or_fail_together(netlink: NftSocket):
    """A chain that a rule leads to cannot be deleted before that rule."""
    chain = delete_chain(IP, "one", "second")
    with pytest.raises(TransactionError, match="EBUSY"):
        netlink.commit([delete_table(INET, "two"), chain])
    assert netlink.tables(INET)

    netlink.commit([flush_chain(IP, "one", "first"), chain, delete_table(INET, "two")])
    assert [row.name for row in netlink.chains(IP)] == ["first", "hooked"]
    assert netlink.tables(INET) == []
