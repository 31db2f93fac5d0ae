"""
The program in the kernel: nfproxy's tables with their chains, rules and sets, without elements.

Rules are compared as the kernel holds them. To know how the kernel would hold the wanted program,
load it into a new network namespace and read it back: so nothing here has to understand nft's text.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from nfproxy.dataplane.libnftables import load_text
from nfproxy.host.privatenamespace import in_new_network_namespace
from nfproxy.model.addresses import Family
from nfproxy.netlink.nftables import Hook, SetRow
from nfproxy.netlink.sockets import NftSocket, open_script_socket
from nfproxy.nft.schema import TABLE
from nfproxy.nft.stages import layout_of


class ChainContents(msgspec.Struct, frozen=True):
    """
    A chain's rules in order and, for a base chain, where it is attached.

    `policy` is the code of the verdict on packets that reach the end of a base chain. `hook` and
    `policy` are None for a regular chain.
    """

    rules: tuple[bytes, ...]
    hook: Hook | None = None
    policy: int | None = None


class Program(msgspec.Struct, frozen=True):
    """
    One family's table without its elements. The kernel does not run a dormant table.

    `layout` is what the table's comment says, None if it says nothing.
    """

    dormant: bool
    chains: dict[str, ChainContents]
    sets: dict[str, SetRow]
    layout: int | None = None


Programs = dict[Family, Program]


def programs_in_kernel(families: Iterable[Family]) -> Programs:
    """Return the tables in this network namespace, for each family that has one."""
    with NftSocket() as netlink:
        found = {family: _program(netlink, family) for family in families}
    return {family: program for family, program in found.items() if program is not None}


def _program(netlink: NftSocket, family: Family) -> Program | None:
    table = next((row for row in netlink.tables(family) if row.name == TABLE), None)
    if table is None:
        return None
    rules: dict[str, list[bytes]] = {}
    for rule in netlink.rules(family, TABLE):
        rules.setdefault(rule.chain, []).append(rule.expressions)
    chains = {
        chain.name: ChainContents(tuple(rules.get(chain.name, ())), chain.hook, chain.policy)
        for chain in netlink.chains(family, TABLE)
    }
    sets = {row.name: row._replace(held=None) for row in netlink.sets(family, TABLE)}
    return Program(table.is_dormant, chains, sets, layout_of(table.comment))


def programs_of_texts(texts: Iterable[str], families: Iterable[Family]) -> Programs:
    """
    Return the tables that nft scripts make, by loading them into a new network namespace.

    Raises MissingFeatureError if this process cannot make one, which takes CAP_SYS_ADMIN.
    """

    def load_and_read() -> Programs:
        for text in texts:
            with open_script_socket() as netlink:
                load_text(text, netlink=netlink)
        return programs_in_kernel(families)

    return in_new_network_namespace(load_and_read)
