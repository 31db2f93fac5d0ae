"""An iptables table of either backend, and which of its rules and chains are kube-proxy's."""

from __future__ import annotations

import enum
from collections.abc import Iterable

import msgspec

from nfproxy.model.addresses import Family
from nfproxy.tools.takeover import names

TABLES = ("nat", "filter", "mangle")


class Backend(enum.Enum):
    """The packet filter of the kernel that an iptables command writes to."""

    NFT = "iptables-nft"
    LEGACY = "iptables-legacy"

    def command(self, family: Family) -> str:
        """Return the command that writes there: ``ip6tables-legacy``."""
        return self.value if family is Family.IPV4 else self.value.replace("ip", "ip6", 1)


class IptablesRule(msgspec.Struct, frozen=True):
    """
    The parts of an iptables rule that matter here.

    `target` is the chain that it leads to, or ACCEPT, DROP, REJECT …; `comment` is its first one.
    `plain` says that it has no conditions, so every packet matches. `key` identifies it to its
    backend: a handle, or its text.
    """

    chain: str
    target: str
    comment: str
    key: int | str
    plain: bool = False


class IptablesTable(msgspec.Struct, frozen=True):
    """
    One table of one backend and family.

    `rules` are those in chains of others, in order. `policies` has ACCEPT or DROP for each of the
    kernel's chains.
    """

    backend: Backend
    family: Family
    name: str
    chains: tuple[str, ...]
    rules: tuple[IptablesRule, ...]
    policies: dict[str, str]

    @property
    def where(self) -> str:
        """The backend and the table in words: ``ip6tables-legacy nat``."""
        return f"{self.backend.command(self.family)} {self.name}"


class TablePlan(msgspec.Struct, frozen=True):
    """
    What to remove from one table, in this order.

    First the `entries`, the rules that give kube-proxy new connections; then the other `jumps` to
    its chains; then the rules of the chains in `flush`; then the chains in `delete`. `foreign` are
    rules of others that lead to chains of kube-proxy, which therefore stay.
    """

    table: IptablesTable
    entries: tuple[IptablesRule, ...]
    jumps: tuple[IptablesRule, ...]
    flush: tuple[str, ...]
    delete: tuple[str, ...]
    foreign: tuple[IptablesRule, ...]

    @property
    def rules(self) -> tuple[IptablesRule, ...]:
        """All rules to remove."""
        return (*self.entries, *self.jumps)

    def __bool__(self) -> bool:
        """Return whether there is anything to remove or to report."""
        return bool(self.rules or self.flush or self.delete or self.foreign)


def plan_table(table: IptablesTable) -> TablePlan:
    """
    Return what to remove from a table.

    A chain that a rule of others leads to cannot be deleted: it is emptied, which ends its effect.
    Only the chain that sets the mark keeps its rules: they do not depend on Services, and its users
    rely on them.
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


#: The comment of a rule that accepts forwarded service traffic for nfproxy.
ACCEPT_COMMENT = "nfproxy: service traffic"


def accept_command(backend: Backend, family: Family) -> str:
    """Return the command that accepts forwarded connections to Services."""
    return (
        f"{backend.command(family)} -I FORWARD -m conntrack --ctstate DNAT "
        f'-m comment --comment "{ACCEPT_COMMENT}" -j ACCEPT'
    )


def forward_remedies(plans: Iterable[TablePlan]) -> list[str]:
    """
    Return the commands that replace kube-proxy's KUBE-FORWARD where that is needed.

    iptables mode accepts service traffic in KUBE-FORWARD. Where the chain FORWARD drops what no
    rule accepted, by its policy or its last rule, another rule has to accept it.
    """
    return [
        accept_command(plan.table.backend, plan.table.family)
        for plan in plans
        if plan.table.name == "filter"
        and any(rule.target == "KUBE-FORWARD" for rule in plan.rules)
        and _drops_forwarded(plan.table)
    ]


def _drops_forwarded(table: IptablesTable) -> bool:
    for rule in table.rules:
        if rule.chain != "FORWARD":
            continue
        if rule.target == "ACCEPT" and (rule.plain or rule.comment == ACCEPT_COMMENT):
            return False
        if rule.target in ("DROP", "REJECT") and rule.plain:
            return True
    return table.policies.get("FORWARD") == "DROP"
