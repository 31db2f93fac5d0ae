"""What kube-proxy left on a node, as values, and the reasons not to remove it yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec

from nfproxy.host.kubeproxy import Running
from nfproxy.model.addresses import FAMILIES, Family, format_address
from nfproxy.nft.schema import KUBE_PROXY_TABLE
from nfproxy.tools.takeover import names
from nfproxy.tools.takeover.tables import IptablesRule, TablePlan, forward_remedies
from nfproxy.tools.takeover.virtualservers import VirtualServer


class LeftoverItem(msgspec.Struct, frozen=True, order=True):
    """
    A row of the list of leftovers; `count` of them share the name.

    `kept` says why it stays, "" where it is to be removed.
    """

    where: str
    kind: str
    name: str
    count: int = 1
    kept: str = ""


class Leftovers(msgspec.Struct, frozen=True):
    """
    What was found.

    `families` have a table of kube-proxy's nftables mode. `bound` are the addresses of its ipvs
    device, None without the device. `unknown` says in words what could not be looked at.
    """

    families: tuple[Family, ...] = ()
    tables: tuple[TablePlan, ...] = ()
    servers: tuple[VirtualServer, ...] = ()
    bound: tuple[bytes, ...] | None = None
    ipsets: tuple[str, ...] = ()
    counters: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def has_ipvs(self) -> bool:
        """Whether ipvs mode left virtual servers or its device."""
        return bool(self.servers) or self.bound is not None

    def serving(self) -> set[Family]:
        """Return the families in which the leftovers still serve Services, at least in part."""
        families = {plan.table.family for plan in self.tables if plan.entries}
        return families.union(self.families, (server.family for server in self.servers))


def items(found: Leftovers) -> list[LeftoverItem]:
    """Return all leftovers, those that stay with the reason, in the order of their removal."""
    rows = [LeftoverItem(f"nftables {f.table}", "table", KUBE_PROXY_TABLE) for f in found.families]
    for plan in found.tables:
        where = plan.table.where
        rows += [LeftoverItem(where, "rule", f"{r.chain} to {r.target}") for r in plan.rules]
        chains = Counter(names.listed_name(name) for name in plan.delete)
        rows += [LeftoverItem(where, "chain", name, n) for name, n in sorted(chains.items())]
        rows += kept_chains(plan)
    rows += [
        LeftoverItem("IPVS", "virtual server", str(server)) for server in sorted(found.servers)
    ]
    if found.bound is not None:
        rows.append(LeftoverItem("interfaces", "device", names.IPVS_DEVICE))
        rows += [
            LeftoverItem(names.IPVS_DEVICE, "address", format_address(a))
            for a in sorted(found.bound)
        ]
    rows += [LeftoverItem("ipset", "set", name) for name in found.ipsets]
    rows += [LeftoverItem("nfacct", "counter", name) for name in found.counters]
    return rows


def kept_chains(plan: TablePlan) -> list[LeftoverItem]:
    """Return the chains of a table that stay because rules of others lead to them."""
    holding: dict[str, list[IptablesRule]] = {}
    for rule in plan.foreign:
        holding.setdefault(rule.target, []).append(rule)
    return [
        LeftoverItem(plan.table.where, "chain", name, kept=_reason(name, rules))
        for name, rules in sorted(holding.items())
    ]


def _reason(name: str, rules: list[IptablesRule]) -> str:
    chains = ", ".join(dict.fromkeys(rule.chain for rule in rules))
    use = f"rules that are not kube-proxy's lead there ({len(rules)} in {chains})"
    if name == names.MARK_CHAIN:
        return f"{use}; nfproxy masquerades by the mark it sets"
    return f"{use}: emptied; remove it when they are gone"


def is_fine(item: LeftoverItem) -> bool:
    """Return whether a leftover stays on purpose."""
    return bool(item.kept) and item.name == names.MARK_CHAIN


def refusals(found: Leftovers, programmed: Iterable[Family], running: Running) -> list[str]:
    """
    Return the reasons not to remove the leftovers, each with its remedy.

    `programmed` are the families in which nfproxy's table serves this node.
    """
    reasons = []
    serving = set(programmed)
    missing = [family.label for family in FAMILIES if family in found.serving() - serving]
    if missing:
        reasons.append(
            f"nfproxy has not programmed {' and '.join(missing)} on this node, which would have no "
            "proxy then: start it, and wait until /readyz on port 10256 answers 200"
        )
    if running.kube_proxy:
        reasons.append(
            f"kube-proxy is running on this node ({running.kube_proxy}) and would put everything "
            "back: end it first (its DaemonSet: keep it off this node by a node affinity)"
        )
    remedies = forward_remedies(found.tables)
    if remedies:
        reasons.append(
            "iptables drops forwarded packets that no rule accepts, and kube-proxy's KUBE-FORWARD "
            "accepts those to Services; accept them, now and at every start: " + "; ".join(remedies)
        )
    return reasons


def own_refusals(found: Leftovers, programmed: Iterable[Family], running: Running) -> list[str]:
    """
    Return the reasons not to remove nfproxy's own tables yet, each with its remedy.

    A kube-proxy that runs is to serve what nfproxy serves; its pod runs before it has programmed.
    Where something could not be looked at, its rules may be there.
    """
    missing = [family for family in programmed if family not in found.serving()]
    if not running.kube_proxy or not missing or found.unknown:
        return []
    return [
        f"kube-proxy is running on this node ({running.kube_proxy}), but has not programmed "
        f"{' and '.join(family.label for family in missing)} yet, which would have no proxy then: "
        "try again when it has; --force if it is not to serve this node"
    ]
