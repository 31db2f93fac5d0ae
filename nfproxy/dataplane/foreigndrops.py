"""
Rules and policies of other programs that may drop a Service's packets, read from nf_tables.

Only what shows without following jumps: a rule that drops what it finds at an address, or at a
port, of the Service, and a chain at the forward hook that drops what no rule accepts. ``nfproxy
trace`` knows the rest.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from nfproxy.dataplane.foreignrules import RuleReader
from nfproxy.errors import DataplaneError
from nfproxy.insight.nodefacts import ForeignDrop
from nfproxy.model.addresses import FAMILIES, family_of
from nfproxy.netlink.nftables import FAMILY_WORDS, ChainRow, comment_in
from nfproxy.netlink.sockets import NftSocket
from nfproxy.nft.schema import DROP, OUR_TABLES

_INET, _NETDEV, _BRIDGE = 1, 5, 7  # NFPROTO_…
_ALL = (_INET, _NETDEV, _BRIDGE)

#: Tables with more chains than this, such as kube-proxy's in iptables mode, take too long.
_MOST_CHAINS = 2_000
_MOST_DROPS = 50


def read_foreign_drops(
    netlink: NftSocket, addresses: Collection[bytes], ports: Collection[int] = ()
) -> tuple[ForeignDrop, ...]:
    """
    Return what may drop packets to or from some addresses, at some ports.

    A rule for other ports than these is left out; without `ports` none is. Raises DataplaneError.
    """
    families = {int(family_of(address)) for address in addresses} & {int(f) for f in FAMILIES}
    chains: dict[tuple[int, str], list[ChainRow]] = {}
    for row in netlink.chains():
        if row.family in (*families, *_ALL) and row.table not in OUR_TABLES:
            chains.setdefault((row.family, row.table), []).append(row)
    found: list[ForeignDrop] = []
    for (family, table), rows in sorted(chains.items(), key=lambda item: item[0]):
        bases = [row for row in rows if row.hook is not None and row.hook.type == "filter"]
        if not bases:
            continue
        name = f"{FAMILY_WORDS.get(family, str(family))} {table}"
        try:
            for row in bases:
                if row.ip_hook == "forward" and row.policy == DROP.code:
                    is_empty = not any(netlink.rules(family, table, row.name))
                    found.append(ForeignDrop(name, row.name, drops_all=is_empty))
            if len(rows) <= _MOST_CHAINS:
                found += _drops(netlink, family, table, name, addresses, ports)
        except DataplaneError:  # the table has gone meanwhile
            continue
    return tuple(found[:_MOST_DROPS])


def _drops(
    netlink: NftSocket,
    family: int,
    table: str,
    name: str,
    addresses: Collection[bytes],
    ports: Collection[int],
) -> Iterator[ForeignDrop]:
    reader = RuleReader(netlink, family, table, addresses, ports)
    for rule in netlink.rules(family, table):
        read = reader.read(rule)
        if not read.does_drop:
            continue
        comment = comment_in(rule.userdata)
        for address in sorted(read.addresses):
            yield ForeignDrop(name, rule.chain, address, rule.handle, read.packets, comment)
        if not read.addresses and read.port:
            yield ForeignDrop(name, rule.chain, b"", rule.handle, read.packets, comment, read.port)
