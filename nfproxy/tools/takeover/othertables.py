"""
Reads and changes nf_tables: kube-proxy's own tables, and the tables of iptables-nft.

The rules of iptables-nft hold expressions of xtables. This module need not understand them: it
deletes a rule by its handle, and only a rule's target and comment matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.netlink.elements import VERDICT, read_verdict
from nfproxy.netlink.messages import text, values
from nfproxy.netlink.nftables import (
    IMMEDIATE_DATA,
    XT_INFO,
    XT_NAME,
    Request,
    RuleRow,
    comment_in,
    delete_rule,
    expressions_of,
)
from nfproxy.netlink.sockets import NftSocket
from nfproxy.nft.schema import DROP
from nfproxy.tools.takeover import names
from nfproxy.tools.takeover.tables import TABLES, Backend, IptablesRule, IptablesTable

#: Requests in one transaction where the removal need not be atomic.
_AT_A_TIME = 4096


class OtherTables(NftSocket):
    """The tables of this network namespace, as the removal needs them."""

    def existing(self, tables: Iterable[tuple[Family, str]]) -> list[tuple[Family, str]]:
        """Return those of some tables, each (family, name), that exist."""
        present = {(table.family, table.name) for table in self.tables()}
        return [table for table in tables if table in present]

    def iptables_tables(self) -> list[IptablesTable]:
        """Return the tables of iptables-nft that hold a chain of kube-proxy's."""
        found = []
        for family in FAMILIES:
            chains = self.chains(family)
            for name in TABLES:
                present = [chain for chain in chains if chain.table == name]
                own = [chain.name for chain in present]
                if any(names.is_chain(name, chain) for chain in own):
                    others = [chain for chain in own if not names.is_chain(name, chain)]
                    # Never of kube-proxy's own chains, which may hold 400,000 rules.
                    rows = [row for chain in others for row in self.rules(family, name, chain)]
                    rules = tuple(map(read_rule, rows))
                    policies = {
                        chain.name: "DROP" if chain.policy == DROP.code else "ACCEPT"
                        for chain in present
                        if chain.hook is not None
                    }
                    found.append(
                        IptablesTable(Backend.NFT, family, name, tuple(own), rules, policies)
                    )
        return found

    def entry_chains(self, family: Family, table: str) -> list[str]:
        """Return the base chains of a table that translate destinations."""
        return [
            chain.name
            for chain in self.chains(family, table)
            if chain.hook is not None
            and chain.hook.type == "nat"
            and chain.ip_hook in ("prerouting", "output")
        ]

    def commit_in_parts(self, requests: Sequence[Request]) -> None:
        """Commit requests in their order, in several transactions. Raises TransactionError."""
        for start in range(0, len(requests), _AT_A_TIME):
            self.commit(requests[start : start + _AT_A_TIME])


def read_rule(row: RuleRow) -> IptablesRule:
    """Return a listed rule, as far as the removal needs it."""
    target, comment, plain = "", "", True
    for name, data in expressions_of(row):
        if name == "match" and text(data.get(XT_NAME, b"")) == "comment":
            comment = comment or text(data.get(XT_INFO, b"").partition(b"\0")[0])
        elif name == "target":
            target = text(data.get(XT_NAME, b""))
        elif name == "immediate" and (verdict := _verdict(data)):
            target = verdict
        elif name != "counter":
            plain = False
    return IptablesRule(
        chain=row.chain,
        target=target,
        comment=comment or comment_in(row.userdata),
        key=row.handle,
        plain=plain,
    )


def _verdict(immediate: dict[int, bytes]) -> str:
    """Return where an immediate expression sends a packet, "" if it loads a value."""
    held = values(immediate.get(IMMEDIATE_DATA, b"")).get(VERDICT)
    if held is None:
        return ""
    verdict = read_verdict(held)
    return verdict.chain or str(verdict).upper()


def rule_deletions(family: Family, table: str, rules: Iterable[IptablesRule]) -> list[Request]:
    """Return the requests to delete some rules of one table."""
    return [delete_rule(family, table, rule.chain, int(rule.key)) for rule in rules]
