"""
Rules and policies of other programs that may drop packets to endpoints, read from nf_tables.

Only what shows without following jumps: a rule that names an endpoint's address and drops,
and a chain at the forward hook that drops what no rule accepts. ``nfproxy trace`` knows the rest.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from nfproxy.errors import DataplaneError
from nfproxy.insight.nodefacts import ForeignDrop
from nfproxy.model.addresses import FAMILIES, family_of
from nfproxy.netlink.elements import VERDICT, read_verdict
from nfproxy.netlink.messages import number, values
from nfproxy.netlink.nftables import (
    FAMILY_WORDS,
    IMMEDIATE_DATA,
    ChainRow,
    RuleRow,
    comment_in,
    expressions_of,
)
from nfproxy.netlink.sockets import NftSocket
from nfproxy.nft.schema import DROP, TABLE

_INET = 1  # NFPROTO_INET
_COMPARED_DATA, _VALUE = 3, 1  # NFTA_CMP_DATA, NFTA_DATA_VALUE
_COUNTED_PACKETS = 2  # NFTA_COUNTER_PACKETS

#: Tables with more chains than this, such as kube-proxy's in iptables mode, take too long.
_MOST_CHAINS = 2_000
_MOST_DROPS = 50


def read_foreign_drops(netlink: NftSocket, addresses: Collection[bytes]) -> tuple[ForeignDrop, ...]:
    """Return what may drop packets to some addresses. Raises DataplaneError."""
    families = {int(family_of(address)) for address in addresses} & {int(f) for f in FAMILIES}
    chains: dict[tuple[int, str], list[ChainRow]] = {}
    for row in netlink.chains():
        if row.family in (*families, _INET) and row.table != TABLE:
            chains.setdefault((row.family, row.table), []).append(row)
    found: list[ForeignDrop] = []
    for (family, table), rows in sorted(chains.items(), key=lambda item: item[0]):
        bases = [row for row in rows if row.hook is not None and row.hook.type == "filter"]
        if not bases:
            continue
        name = f"{FAMILY_WORDS.get(family, str(family))} {table}"
        for row in bases:
            if row.ip_hook == "forward" and row.policy == DROP.code:
                found.append(ForeignDrop(table=name, chain=row.name))
        if len(rows) <= _MOST_CHAINS:
            try:
                rules = list(netlink.rules(family, table))
            except DataplaneError:  # the table has gone meanwhile
                continue
            for rule in rules:
                found += _drops(name, rule, addresses)
    return tuple(found[:_MOST_DROPS])


def _drops(table: str, rule: RuleRow, addresses: Collection[bytes]) -> Iterator[ForeignDrop]:
    """Yield the addresses that a rule compares with, if it drops or rejects."""
    named = [address for address in addresses if address in rule.expressions]
    if not named:
        return
    compared: set[bytes] = set()
    packets: int | None = None
    does_drop = False
    for name, data in expressions_of(rule):
        if name == "cmp":
            compared.add(values(data.get(_COMPARED_DATA, b"")).get(_VALUE, b""))
        elif name == "counter":
            packets = number(data.get(_COUNTED_PACKETS, b""))
        elif name == "immediate":
            held = values(data.get(IMMEDIATE_DATA, b"")).get(VERDICT)
            does_drop |= held is not None and read_verdict(held) == DROP
        elif name == "reject":
            does_drop = True
    if does_drop:
        for address in named:
            if address in compared:
                comment = comment_in(rule.userdata)
                yield ForeignDrop(table, rule.chain, address, rule.handle, packets, comment)
