"""
An iptables table as found, of either backend, and what of it is kube-proxy's.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable

import msgspec

from nfproxy.model.addresses import Family
from nfproxy.tools.takeover import names

TABLES = ("nat", "filter", "mangle")


class Backend(enum.Enum):
    """Which of the kernel's two packet filters an iptables command has written to."""

    NFT = "iptables-nft"
    LEGACY = "iptables-legacy"

    def command(self, family: Family) -> str:
        """Return the command that writes there: ``ip6tables-legacy``."""
        return self.value if family is Family.IPV4 else self.value.replace("ip", "ip6", 1)


class Rule(msgspec.Struct, frozen=True):
    """
    A rule, as far as it matters here.

    `target` is the chain it goes to, or ACCEPT, DROP, REJECT …; `comment` the first one it
    carries. `plain` tells that it asks for nothing: every packet takes it. `key` names it to its
    backend: a handle, or its text.
    """

    chain: str
    target: str
    comment: str
    key: int | str
    plain: bool = False


class XTable(msgspec.Struct, frozen=True):
    """
    One table of one backend and family.

    `rules` are those of chains that are not kube-proxy's own, in order. `policies` has ACCEPT or
    DROP for each of the kernel's chains.
    """

    backend: Backend
    family: Family
    name: str
    chains: tuple[str, ...]
    rules: tuple[Rule, ...]
    policies: dict[str, str]

    @property
    def where(self) -> str:
        """Where it is, in words: ``ip6tables-legacy nat``."""
        return f"{self.backend.command(self.family)} {self.name}"


class TablePlan(msgspec.Struct, frozen=True):
    """
    What is to be done in one table.

    First `entries` go, the rules by which new connections come in, later `jumps`; then `flush`
    names the chains to empty, and `delete` those to delete. `foreign` are rules of others that
    lead into chains, which stay for that reason.
    """

    table: XTable
    entries: tuple[Rule, ...]
    jumps: tuple[Rule, ...]
    flush: tuple[str, ...]
    delete: tuple[str, ...]
    foreign: tuple[Rule, ...]

    @property
    def rules(self) -> tuple[Rule, ...]:
        """All rules that go."""
        return (*self.entries, *self.jumps)

    def __bool__(self) -> bool:
        """Tell whether there is anything to do, or to tell."""
        return bool(self.rules or self.flush or self.delete or self.foreign)


def plan_table(table: XTable) -> TablePlan:
    """
    Return what of a table is kube-proxy's, and how it goes.

    A chain that somebody else's rule leads to cannot be deleted; it is emptied, so that nothing of
    kube-proxy's is in force. Only the chain that sets the mark is left as it is: nothing in it
    depends on Services, and who uses it relies on it.
    """
    own = [name for name in table.chains if names.is_chain(table.name, name)]
    jumps = [
        rule
        for rule in table.rules
        if names.is_jump(table.name, rule.chain, rule.target, rule.comment)
    ]
    going = {rule.key for rule in jumps}
    mine = frozenset(own)
    foreign = [rule for rule in table.rules if rule.target in mine and rule.key not in going]
    held = {rule.target for rule in foreign}
    return TablePlan(
        table,
        entries=tuple(r for r in jumps if (table.name, r.chain) in names.ENTRY_POINTS),
        jumps=tuple(r for r in jumps if (table.name, r.chain) not in names.ENTRY_POINTS),
        flush=tuple(n for n in own if n not in held or n != names.MARK_CHAIN),
        delete=tuple(n for n in own if n not in held),
        foreign=tuple(foreign),
    )


#: A rule that lets forwarded service traffic pass; the comment tells that it was put for nfproxy.
ACCEPT_COMMENT = "nfproxy: service traffic"


def accept_command(backend: Backend, family: Family) -> str:
    """Return the command that lets forwarded connections to Services pass."""
    return (
        f"{backend.command(family)} -I FORWARD -m conntrack --ctstate DNAT "
        f'-m comment --comment "{ACCEPT_COMMENT}" -j ACCEPT'
    )


def forward_remedies(plans: Iterable[TablePlan]) -> list[str]:
    """
    Return the commands without which service traffic may no longer be forwarded.

    iptables mode accepts it in KUBE-FORWARD. Where the rest of the chain FORWARD drops what nobody
    accepted (its policy, or a last rule), somebody has to take over.
    """
    return [
        accept_command(plan.table.backend, plan.table.family)
        for plan in plans
        if plan.table.name == "filter"
        and any(rule.target == "KUBE-FORWARD" for rule in plan.rules)
        and _drops_forwarded(plan.table)
    ]


def _drops_forwarded(table: XTable) -> bool:
    for rule in table.rules:
        if rule.chain != "FORWARD":
            continue
        if rule.target == "ACCEPT" and (rule.plain or rule.comment == ACCEPT_COMMENT):
            return False
        if rule.target in ("DROP", "REJECT") and rule.plain:
            return True
    return table.policies.get("FORWARD") == "DROP"
