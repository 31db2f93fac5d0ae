"""
The removal, in an order in which no packet is lost.

What translates new connections goes first, everything else a moment later: a packet that kube-proxy
has marked and translated in prerouting still meets its masquerading in postrouting. Connections
that are open go on by conntrack, only those through IPVS need their virtual server; these go when
nobody uses them any more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from nfproxy.errors import NfproxyError, TransactionError
from nfproxy.model.addresses import Family
from nfproxy.netlink.nftables import Request, delete_chain, delete_table, flush_chain
from nfproxy.netlink.sockets import ABSENT, NftSocket
from nfproxy.nft.schema import KUBE_PROXY_TABLE
from nfproxy.tools.takeover import accounting, ipsets
from nfproxy.tools.takeover.draining import drain
from nfproxy.tools.takeover.ipvs import Addresses, Ipvs
from nfproxy.tools.takeover.leftovers import Leftovers
from nfproxy.tools.takeover.legacy import Legacy
from nfproxy.tools.takeover.nftables import NfTables, rules_of
from nfproxy.tools.takeover.tables import Backend, TablePlan, XTable, plan_table
from nfproxy.tools.takeover.virtualservers import NodePorts, VirtualServer, kube_proxys

#: How long a packet may take from prerouting to postrouting, with much to spare.
PAUSE_S = 0.1

T = TypeVar("T")

_PATIENCE_S, _PAUSE_BETWEEN_S = 3.0, 0.05
_TRIES = 3  # somebody else may change the same tables meanwhile


def there(nft: NfTables, tables: Iterable[tuple[Family, str]]) -> list[tuple[Family, str]]:
    """Return those of some tables that exist."""
    return [(family, name) for family, name in tables if name in nft.table_names(family)]


def remove_tables_in_stages(
    nft: NfTables, tables: Iterable[tuple[Family, str]], pause_s: float = PAUSE_S
) -> list[tuple[Family, str]]:
    """
    Remove nftables tables: what translates new connections, and then everything else.

    Returns those that there were. Raises TransactionError.
    """
    found = there(nft, tables)
    entries = [
        flush_chain(family, name, chain)
        for family, name in found
        for chain in nft.entry_chains(family, name)
    ]
    if entries:
        nft.commit(entries)
        time.sleep(pause_s)
    nft.commit([delete_table(family, name) for family, name in found])
    return found


class Removing:
    """
    Finds and removes what kube-proxy left in this network namespace. A context manager.

    `say` is told of progress where something takes long.
    """

    def __init__(self, say: Callable[[str], object], netlink: NftSocket | None = None) -> None:
        self._say = say
        self._nft = NfTables(netlink)
        self._legacy = Legacy()
        self._ipvs = Ipvs()

    def __enter__(self) -> Removing:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self._nft.close()

    def find(self) -> Leftovers:
        """Look at everything. What cannot be looked at is named in the result."""
        unknown: list[str] = []
        xtables = self._nft.xtables()
        xtables += _ask(unknown, list[XTable](), self._legacy.tables)
        sets = _ask(unknown, ipsets.Sets((), frozenset()), ipsets.kube_proxy_sets)
        every = _ask(unknown, list[VirtualServer](), self._ipvs.servers)
        bound, local = _ask(unknown, Addresses(None, frozenset()), self._ipvs.addresses)
        mine = kube_proxys(every, bound or (), NodePorts(sets.node_ports, local))
        plans = [plan_table(table) for table in xtables]
        return Leftovers(
            families=tuple(self._nft.own_tables()),
            tables=tuple(plan for plan in plans if plan),
            servers=tuple(mine),
            other_servers=len(every) - len(mine),
            bound=bound,
            ipsets=sets.names,
            counters=tuple(_ask(unknown, list[str](), accounting.kube_proxy_counters)),
            unknown=tuple(unknown),
        )

    def remove(
        self, found: Leftovers, *, drain_s: float, force: bool
    ) -> tuple[Leftovers, list[str]]:
        """
        Remove what was found and return what is left of it, with the reasons.

        Connections through IPVS get `drain_s` to end; what is in use then stays, unless `force`.
        """
        for _ in range(_TRIES):
            errors = self._remove_rules(found)
            if not errors:
                break
            found = self.find()
        # What could not be looked at may go on using them.
        patience_s = 0.0 if found.unknown else _PATIENCE_S
        if not errors and found.ipvs:
            errors += drain(self._ipvs, found, drain_s, force=force, say=self._say)
        if not errors:  # what is left of IPVS is known by its sets
            errors += _patiently(ipsets.destroy_set, found.ipsets, patience_s)
        errors += _patiently(accounting.delete_counter, found.counters, patience_s)
        return self.find(), errors

    # -- rules and tables ------------------------------------------------------------------

    def _remove_rules(self, found: Leftovers) -> list[str]:
        errors: list[str] = []
        nft = [plan for plan in found.tables if plan.table.backend is Backend.NFT]
        legacy = [plan for plan in found.tables if plan.table.backend is Backend.LEGACY]
        entries = [
            flush_chain(family, KUBE_PROXY_TABLE, chain)
            for family in found.families
            for chain in self._nft.entry_chains(family, KUBE_PROXY_TABLE)
        ]
        entries += _rules(nft, entries=True)
        _try(errors, lambda: self._nft.commit(entries))
        _try(errors, lambda: self._legacy.remove_rules(legacy, entries=True))
        if errors:  # nothing that a packet under way needs may go before
            return errors
        if entries or any(plan.entries for plan in legacy):
            time.sleep(PAUSE_S)
        _try(errors, lambda: self._nft.commit(_rules(nft, entries=False)))
        _try(errors, lambda: self._legacy.remove_rules(legacy, entries=False))
        _try(errors, lambda: self._nft.commit(_chains(nft, flush_chain), atomic=False))
        self._delete_chains(nft, errors)
        _try(errors, lambda: self._legacy.remove_chains(legacy))
        own = [delete_table(family, KUBE_PROXY_TABLE) for family in found.families]
        _try(errors, lambda: self._nft.commit(own))
        return errors

    def _delete_chains(self, plans: Iterable[TablePlan], errors: list[str]) -> None:
        """Delete chains all at once or, where one of them is held by something, one by one."""
        for plan in plans:
            table = plan.table
            requests = [delete_chain(table.family, table.name, name) for name in plan.delete]
            try:
                self._nft.commit(requests, atomic=False)
            except TransactionError:
                for name, request in zip(plan.delete, requests, strict=True):
                    self._delete_chain(table, name, request, errors)

    def _delete_chain(self, table: XTable, name: str, request: Request, errors: list[str]) -> None:
        try:
            self._nft.commit([request])
        except TransactionError as error:
            if error.code != ABSENT:
                errors.append(f"{table.where}: chain {name}: {error}")


def _rules(plans: Iterable[TablePlan], *, entries: bool) -> list[Request]:
    return [
        removal
        for plan in plans
        for removal in rules_of(
            plan.table.family, plan.table.name, plan.entries if entries else plan.jumps
        )
    ]


def _chains(
    plans: Iterable[TablePlan], request: Callable[[Family, str, str], Request]
) -> list[Request]:
    return [request(p.table.family, p.table.name, name) for p in plans for name in p.flush]


def _try(errors: list[str], action: Callable[[], object]) -> None:
    try:
        action()
    except NfproxyError as error:
        errors.append(str(error))


def _patiently(delete: Callable[[str], None], names: Iterable[str], patience_s: float) -> list[str]:
    """
    Delete things by name; return what failed.

    The kernel destroys rules a moment after they are gone, and keeps what they used until then.
    """
    errors: dict[str, str] = {}
    left = list(names)
    deadline = time.monotonic() + patience_s
    while left:
        errors = {}
        for name in left:
            try:
                delete(name)
            except NfproxyError as error:
                errors[name] = str(error)
        left = list(errors)
        if time.monotonic() > deadline:
            break
        if left:
            time.sleep(_PAUSE_BETWEEN_S)
    return list(errors.values())


def _ask(unknown: list[str], otherwise: T, question: Callable[[], T]) -> T:
    try:
        return question()
    except NfproxyError as error:
        unknown.append(str(error))
        return otherwise
