"""Which of nfproxy's tables are in the kernel, and which of them packets come to."""

from __future__ import annotations

from collections.abc import Mapping

from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.netlink.sockets import NftSocket
from nfproxy.nft.schema import NEXT_TABLE, OUR_TABLES
from nfproxy.nft.stages import LAYOUT, FamilyTables, layout_of


def our_tables(netlink: NftSocket) -> Mapping[Family, FamilyTables]:
    """Return each family's tables, those of families with none left out. Raises DataplaneError."""
    rows = [row for row in netlink.tables() if row.name in OUR_TABLES]
    found: dict[Family, FamilyTables] = {}
    for family in FAMILIES:
        of_family = [row for row in rows if row.family == family]
        if not of_family:
            continue
        there = frozenset(row.name for row in of_family)
        awake = {row.name for row in of_family if not row.is_dormant}
        in_force = awake
        if NEXT_TABLE in there:  # seldom: then one of them may have no base chains
            in_force = {
                name for name in awake if any(chain.hook for chain in netlink.chains(family, name))
            }
        layouts = {row.name: layout_of(row.comment) for row in of_family}
        others = frozenset(name for name, one in layouts.items() if one not in (None, LAYOUT))
        found[family] = FamilyTables(there, frozenset(in_force), there - awake, others)
    return found
