"""
What other processes have put into nfproxy's tables: chains, sets, objects and flowtables.

The kernel refuses to delete what anything refers to. So what it deletes, nothing used: no packet
comes to a chain that is no base chain unless a rule or an element leads to it. This runs when the
tables hold their program and elements again, and rules and elements of others are gone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import NamedTuple

from nfproxy.errors import TransactionError
from nfproxy.model.addresses import Family
from nfproxy.netlink.nftables import (
    DELETE_FLOWTABLE,
    DELETE_OBJECT,
    DELETE_SET,
    Request,
    delete_chain,
    delete_named,
    flush_chain,
)
from nfproxy.netlink.sockets import NftSocket
from nfproxy.nft.chains import is_our_set, is_ours
from nfproxy.nft.schema import NAMED_COUNTERS, TABLE
from nfproxy.text import plural, shown_name

log = logging.getLogger(__name__)

#: nft's words for NFT_OBJECT_… numbers.
_OBJECTS = {
    **{1: "counter", 2: "quota", 3: "ct helper", 4: "limit", 7: "ct timeout"},
    **{8: "secmark", 9: "ct expectation", 10: "synproxy"},
}

_NAMED = 5  # so many are named in one line of the log


class Stranger(NamedTuple):
    """
    One thing of another process: `kind` is nft's word, `requests` delete it.

    `is_hooked` is true for a base chain, which packets come to by itself.
    """

    family: Family
    kind: str
    name: str
    requests: tuple[Request, ...]
    is_hooked: bool = False

    @property
    def command(self) -> str:
        """The command that removes it, once nothing refers to it."""
        return f"nft delete {_shown(self)}"


def strangers_in_kernel(families: Iterable[Family]) -> list[Stranger]:
    """Return what others have put into nfproxy's tables. Raises DataplaneError."""
    with NftSocket() as netlink:
        return [stranger for family in families for stranger in _found(netlink, family)]


class Strangers:
    """Removes what is not nfproxy's from its tables, and names what it cannot remove, once."""

    def __init__(self, netlink: NftSocket) -> None:
        """Use a socket of the thread that calls."""
        self._netlink = netlink
        self._named: set[tuple[Family, str, str]] = set()

    def remove(self, families: Iterable[Family]) -> None:
        """
        Delete what nothing refers to. Raises DataplaneError where a table cannot be read.

        A set of theirs may lead to a chain of theirs, so go on as long as something can be deleted.
        """
        left = [stranger for family in families for stranger in _found(self._netlink, family)]
        removed: list[Stranger] = []
        while gone := [stranger for stranger in left if self._delete(stranger)]:
            removed += gone
            left = [stranger for stranger in left if stranger not in gone]
        if removed:
            names = ", ".join(_shown(one) for one in removed[:_NAMED])
            more = len(removed) - _NAMED
            log.warning(
                "removed %s%s: another process had put that into nfproxy's tables, and nothing "
                "used it",
                names,
                f" and {plural(more, 'further thing')}" if more > 0 else "",
            )
        known, self._named = self._named, {(one.family, one.kind, one.name) for one in left}
        for one in [one for one in left if (one.family, one.kind, one.name) not in known][:_NAMED]:
            log.warning(
                "%s is another process's and in use, so it stays. When nothing uses it any more, "
                "remove it: %s",
                _shown(one),
                one.command,
            )

    def _delete(self, stranger: Stranger) -> bool:
        try:
            self._netlink.commit(stranger.requests)
        except TransactionError:  # it is in use, or gone
            return False
        return True


def _shown(one: Stranger) -> str:
    return f"{one.kind} {one.family.table} {TABLE} {shown_name(one.name)}"


def _found(netlink: NftSocket, family: Family) -> list[Stranger]:
    """Return what is not nfproxy's in a family's table."""
    found = [
        Stranger(
            family,
            "chain",
            row.name,
            (flush_chain(family, TABLE, row.name), delete_chain(family, TABLE, row.name)),
            row.hook is not None,
        )
        for row in netlink.chains(family, TABLE)
        if not is_ours(row.name)
    ]
    found += [
        _named(
            DELETE_SET, family, "map" if row.data_length or row.has_verdicts else "set", row.name
        )
        for row in netlink.sets(family, TABLE)
        # An anonymous set goes with the rule that it is part of.
        if not (is_our_set(row.name) or row.is_anonymous)
    ]
    found += [
        _named(DELETE_OBJECT, family, _OBJECTS.get(row.type, "object"), row.name, row.type)
        for row in netlink.objects(family, TABLE)
        if row.name not in NAMED_COUNTERS
    ]
    found += [
        _named(DELETE_FLOWTABLE, family, "flowtable", name)
        for name in netlink.flowtables(family, TABLE)
    ]
    return found


def _named(kind: int, family: Family, word: str, name: str, type: int = 0) -> Stranger:
    return Stranger(family, word, name, (delete_named(kind, family, TABLE, name, type),))
