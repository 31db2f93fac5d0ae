"""
Rules of chains as nft prints them, to show how two tables differ.

Both tables are listed by the same libnftables, so that equal rules have the same text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing

from nfproxy.dataplane.libnftables import Child, load_text
from nfproxy.errors import DataplaneError
from nfproxy.host.privatenamespace import in_new_network_namespace
from nfproxy.model.addresses import Family
from nfproxy.netlink.sockets import open_script_socket
from nfproxy.nft.schema import TABLE

#: A chain of nfproxy's table of a family.
Place = tuple[Family, str]

_TABLE = re.compile(r"table (ip6?) \S+ \{")
_CHAIN = re.compile(r"\tchain (\S+) \{")
_COUNTED = re.compile(r"counter packets \d+ bytes \d+")
_TIMEOUT_S = 20.0


def rules_in_kernel(places: Sequence[Place]) -> Mapping[Place, tuple[str, ...]]:
    """
    Return the rules of some chains in this network namespace; {} where nft cannot list them.

    Other programs may have written rules that this libnftables does not know, or crashes on.
    """
    try:
        return _rules(_listed(places))
    except DataplaneError:
        return {}


def rules_of_texts(
    texts: Iterable[str], places: Sequence[Place]
) -> Mapping[Place, tuple[str, ...]]:
    """Return the rules that nft scripts give some chains, by a new namespace; {} if that fails."""

    def load_and_list() -> str:
        for text in texts:
            with open_script_socket() as netlink:
                load_text(text, netlink=netlink)
        return _listed(places)

    try:
        return _rules(in_new_network_namespace(load_and_list))
    except DataplaneError:
        return {}


def _listed(places: Sequence[Place]) -> str:
    # A script for each: in one with several, nft 1.0.6 finds the chain of the first only.
    with closing(Child()) as child:
        scripts = (f"list chain {family.table} {TABLE} {name}\n" for family, name in places)
        return "".join(child.run(script, _TIMEOUT_S) for script in scripts)


def _rules(text: str) -> dict[Place, tuple[str, ...]]:
    """Return each chain's rules, without what counters have counted."""
    found: dict[Place, tuple[str, ...]] = {}
    family, name, rules = Family.IPV4, "", list[str]()
    for line in text.splitlines():
        if table := _TABLE.fullmatch(line):
            family = next(one for one in Family if one.table == table[1])
        elif chain := _CHAIN.fullmatch(line):
            name, rules = chain[1], []
        elif line == "\t}" and name:
            found[family, name] = tuple(rules)
            name = ""
        elif name and line.startswith("\t\t"):
            rules.append(_COUNTED.sub("counter", line.strip()))
    return found
