"""
Removes what kube-proxy left, in an order in which no packet is lost.

Rules that translate new connections go first, everything else a moment later. A packet that
kube-proxy has marked and translated in prerouting still finds its masquerading in postrouting.
Open connections go on by conntrack. Only those through IPVS need their virtual server, which
therefore stays until they end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from nfproxy.closing import Closing
from nfproxy.errors import NfproxyError, TransactionError
from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.netlink.nftables import Request, delete_chain, delete_table, flush_chain
from nfproxy.netlink.sockets import ABSENT
from nfproxy.nft.schema import KUBE_PROXY_TABLE
from nfproxy.tools.takeover import ipvs, legacy
from nfproxy.tools.takeover.draining import drain
from nfproxy.tools.takeover.leftovers import Leftovers
from nfproxy.tools.takeover.othertables import OtherTables, rule_deletions
from nfproxy.tools.takeover.ruleobjects import (
    KubeProxySets,
    delete_counter,
    destroy_set,
    kube_proxy_counters,
    kube_proxy_sets,
)
from nfproxy.tools.takeover.tables import Backend, IptablesTable, TablePlan, plan_table
from nfproxy.tools.takeover.virtualservers import VirtualServer, servers_of_kube_proxy

T = TypeVar("T")

#: The tables of kube-proxy's nftables mode.
_OWN_TABLES = [(family, KUBE_PROXY_TABLE) for family in FAMILIES]

#: How long a packet may take from prerouting to postrouting, with much to spare.
_PACKET_S = 0.1
_RELEASE_S, _RELEASE_INTERVAL_S = 3.0, 0.05
_TRIES = 3  # another process may change the same tables in between


def remove_tables_in_stages(
    nft: OtherTables, tables: Iterable[tuple[Family, str]]
) -> list[tuple[Family, str]]:
    """
    Remove nftables tables: first the rules that translate new connections, then the rest.

    Returns the tables that existed. Raises TransactionError.
    """
    found = nft.existing(tables)
    entries = _entries(nft, found)
    if entries:
        nft.commit(entries)
        time.sleep(_PACKET_S)
    nft.commit([delete_table(family, name) for family, name in found])
    return found


def _entries(nft: OtherTables, tables: Iterable[tuple[Family, str]]) -> list[Request]:
    """Return the requests to empty the chains that translate new connections."""
    return [
        flush_chain(family, name, chain)
        for family, name in tables
        for chain in nft.entry_chains(family, name)
    ]


class KubeProxyRemoval(Closing):
    """
    Finds and removes what kube-proxy left in this network namespace. A context manager.

    `say` receives the progress where something takes long. One thread uses it.
    """

    def __init__(self, say: Callable[[str], object]) -> None:
        self._say = say
        self._nft = OtherTables()

    def close(self) -> None:
        """Close its socket. Idempotent."""
        self._nft.close()

    def find(self) -> Leftovers:
        """Look at everything; the result names what could not be looked at."""
        unknown: list[str] = []
        tables = self._nft.iptables_tables()
        tables += _read_or(list[IptablesTable](), legacy.kube_proxy_tables, unknown)
        sets = _read_or(KubeProxySets((), frozenset()), kube_proxy_sets, unknown)
        every = _read_or(list[VirtualServer](), ipvs.all_servers, unknown)
        bound, local = _read_or(ipvs.NO_ADDRESSES, ipvs.host_addresses, unknown)
        servers = servers_of_kube_proxy(every, bound or (), local, sets.node_ports)
        plans = [plan_table(table) for table in tables]
        counters = _read_or(list[str](), kube_proxy_counters, unknown)
        return Leftovers(
            families=tuple(family for family, _ in self._nft.existing(_OWN_TABLES)),
            tables=tuple(plan for plan in plans if plan),
            servers=tuple(servers),
            bound=bound,
            ipsets=sets.names,
            counters=tuple(counters),
            unknown=tuple(unknown),
        )

    def remove(
        self, found: Leftovers, *, drain_s: float, force: bool
    ) -> tuple[Leftovers, list[str]]:
        """
        Remove the leftovers and return what is still there, with the errors.

        Connections through IPVS get `drain_s` to end. Those that are open then keep their virtual
        servers unless `force`.
        """
        for _ in range(_TRIES):
            errors = self._remove_rules(found)
            if not errors:
                break
            found = self.find()
        # Rules in a table that could not be read may use the objects for good: do not wait.
        release_s = 0.0 if found.unknown else _RELEASE_S
        if not errors and found.has_ipvs:
            errors += drain(found, drain_s, force=force, say=self._say)
        # A later run recognises virtual servers of node ports by the ipsets: these go last.
        if not errors:
            errors += _delete_when_released(destroy_set, found.ipsets, release_s)
        errors += _delete_when_released(delete_counter, found.counters, release_s)
        return self.find(), errors

    def _remove_rules(self, found: Leftovers) -> list[str]:
        """Remove all rules, chains and tables of iptables and nftables; return what failed."""
        errors: list[str] = []
        nft = [plan for plan in found.tables if plan.table.backend is Backend.NFT]
        old = [plan for plan in found.tables if plan.table.backend is Backend.LEGACY]
        own = [(family, KUBE_PROXY_TABLE) for family in found.families]
        entries = [*_entries(self._nft, own), *_deletions(nft, entries=True)]
        _try(lambda: self._nft.commit(entries), errors)
        _try(lambda: legacy.remove_rules(old, entries=True), errors)
        if errors:  # packets still enter: what they need later must stay
            return errors
        if entries or any(plan.entries for plan in old):
            time.sleep(_PACKET_S)
        _try(lambda: self._nft.commit(_deletions(nft, entries=False)), errors)
        _try(lambda: legacy.remove_rules(old, entries=False), errors)
        # Chains lead to each other, so all of them are emptied before any is deleted.
        _try(lambda: self._nft.commit_in_parts(_flushes(nft)), errors)
        for plan in nft:
            errors += self._delete_chains(plan)
        _try(lambda: legacy.remove_chains(old), errors)
        tables = [delete_table(family, name) for family, name in own]
        _try(lambda: self._nft.commit(tables), errors)
        return errors

    def _delete_chains(self, plan: TablePlan) -> list[str]:
        """Delete chains together or, where a rule of others holds one, one by one."""
        table = plan.table
        requests = [delete_chain(table.family, table.name, name) for name in plan.delete]
        try:
            self._nft.commit_in_parts(requests)
        except TransactionError:
            named = zip(plan.delete, requests, strict=True)
            failed = [(name, self._failure(request)) for name, request in named]
            return [f"{table.where}: chain {name}: {why}" for name, why in failed if why]
        return []

    def _failure(self, request: Request) -> str:
        """Commit one request; return why it failed, "" where it worked or was not needed."""
        try:
            self._nft.commit([request])
        except TransactionError as error:
            return "" if error.code == ABSENT else str(error)
        return ""


def _deletions(plans: Iterable[TablePlan], *, entries: bool) -> list[Request]:
    return [
        request
        for plan in plans
        for request in rule_deletions(
            plan.table.family, plan.table.name, plan.entries if entries else plan.jumps
        )
    ]


def _flushes(plans: Iterable[TablePlan]) -> list[Request]:
    return [flush_chain(p.table.family, p.table.name, name) for p in plans for name in p.flush]


def _try(action: Callable[[], object], errors: list[str]) -> None:
    try:
        action()
    except NfproxyError as error:
        errors.append(str(error))


def _read_or(otherwise: T, read: Callable[[], T], unknown: list[str]) -> T:
    try:
        return read()
    except NfproxyError as error:
        unknown.append(str(error))
        return otherwise


def _delete_when_released(
    delete: Callable[[str], None], names: Iterable[str], release_s: float
) -> list[str]:
    """
    Delete objects by name; return what failed.

    The kernel destroys deleted rules a moment later, and keeps the objects they used until then.
    """
    left, deadline = list(names), time.monotonic() + release_s
    while True:
        errors: dict[str, str] = {}
        for name in left:
            try:
                delete(name)
            except NfproxyError as error:
                errors[name] = str(error)
        left = list(errors)
        if not left or time.monotonic() > deadline:
            return list(errors.values())
        time.sleep(_RELEASE_INTERVAL_S)
