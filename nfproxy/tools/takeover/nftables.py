"""
nf_tables: kube-proxy's own tables, and those of iptables-nft, read and changed by netlink.

What iptables-nft writes is rules with expressions of xtables in them. They need not be understood:
a rule goes by its handle, and of what it says only target and comment matter.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence

from nfproxy.dataplane import wire
from nfproxy.dataplane.netlink import Netlink
from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.netlink.messages import NLM_F_ACK, attribute, attributes, string
from nfproxy.nft.schema import KUBE_PROXY_TABLE
from nfproxy.tools.takeover import names
from nfproxy.tools.takeover.tables import TABLES, Backend, Rule, XTable

_TABLE, _CHAIN, _HANDLE, _EXPRESSIONS, _USERDATA = 1, 2, 3, 4, 7  # NFTA_RULE_…
_CHAIN_NAME, _CHAIN_HOOK, _CHAIN_POLICY, _CHAIN_TYPE = 3, 4, 5, 7  # NFTA_CHAIN_…
_HOOK_NUMBER = 1  # NFTA_HOOK_HOOKNUM
_TABLE_NAME = 1  # NFTA_TABLE_NAME
_DELCHAIN, _DELRULE = 5, 8  # NFT_MSG_…
_EXPR_NAME, _EXPR_DATA = 1, 2
_XT_NAME, _XT_INFO = 1, 3  # NFTA_MATCH_…, NFTA_TARGET_… likewise
_IMMEDIATE_DATA, _VERDICT_DATA, _VERDICT_CODE, _VERDICT_CHAIN = 2, 2, 1, 2
_CODES = {0: "DROP", 1: "ACCEPT", -5: "RETURN"}
_DROP = 0
_PREROUTING, _OUTPUT = 0, 3  # NF_INET_PRE_ROUTING, NF_INET_LOCAL_OUT

#: Messages a transaction may have; what has been emptied need not go at once.
_AT_A_TIME = 4096

Removal = tuple[int, Family, bytes]


class NfTables:
    """The tables of this network namespace. Raises DataplaneError where it cannot be read."""

    def __init__(self, netlink: Netlink | None = None) -> None:
        self._netlink = netlink or Netlink()

    def close(self) -> None:
        """Close the socket."""
        self._netlink.close()

    def table_names(self, family: Family) -> list[str]:
        """Return the names of a family's tables."""
        return [
            _text(values[_TABLE_NAME])
            for values in map(_values, self._netlink.dump(wire.GETTABLE, family))
        ]

    def own_tables(self, table: str = KUBE_PROXY_TABLE) -> list[Family]:
        """Return the families that have a table of a name, by default of kube-proxy's mode."""
        return [family for family in FAMILIES if table in self.table_names(family)]

    def traces(self) -> list[str]:
        """Return in words by what kube-proxy serves, or has served, this node; at little cost."""
        found = [f"table {family.table} {KUBE_PROXY_TABLE}" for family in self.own_tables()]
        for family in FAMILIES:
            chains = ((t, _text(v[_CHAIN_NAME])) for t, v in self._chains(family))
            if ("nat", "KUBE-SERVICES") in chains:
                found.append(f"chains of {Backend.NFT.command(family)}")
        return found

    def xtables(self) -> list[XTable]:
        """Return what iptables-nft has written that holds a chain of kube-proxy's."""
        found = []
        for family in FAMILIES:
            present = set(self.table_names(family)).intersection(TABLES)
            chains = list(self._chains(family)) if present else []
            for name in TABLES:
                mine = [values for table, values in chains if table == name]
                own = [_text(values[_CHAIN_NAME]) for values in mine]
                if any(names.is_chain(name, chain) for chain in own):
                    others = [chain for chain in own if not names.is_chain(name, chain)]
                    rules = tuple(self._rules(family, name, others))
                    policies = {
                        _text(values[_CHAIN_NAME]): _policy(values)
                        for values in mine
                        if _CHAIN_HOOK in values
                    }
                    found.append(XTable(Backend.NFT, family, name, tuple(own), rules, policies))
        return found

    def entry_chains(self, family: Family, table: str) -> list[str]:
        """Return a table's chains in which destinations are translated, by their hooks."""
        return [
            _text(values[_CHAIN_NAME])
            for name, values in self._chains(family)
            if name == table
            and _text(values.get(_CHAIN_TYPE, b"")) == "nat"
            and _hook(values) in (_PREROUTING, _OUTPUT)
        ]

    def commit(self, removals: Sequence[Removal], *, atomic: bool = True) -> None:
        """
        Remove what the functions below made requests of, in their order.

        Not `atomic`: in several transactions where it is much. Raises TransactionError.
        """
        size = len(removals) if atomic else _AT_A_TIME
        for start in range(0, len(removals), size or 1):
            part = removals[start : start + size]
            first = self._netlink.reserve(len(part))
            messages = [
                wire.message(
                    kind, NLM_F_ACK if i == len(part) - 1 else 0, first + i, family, payload
                )
                for i, (kind, family, payload) in enumerate(part)
            ]
            self._netlink.commit(messages, first)

    def _chains(self, family: Family) -> Iterator[tuple[str, dict[int, bytes]]]:
        for data in self._netlink.dump(wire.GETCHAIN, family):
            values = _values(data)
            yield _text(values[_TABLE_NAME]), values

    def _rules(self, family: Family, table: str, chains: Iterable[str]) -> Iterator[Rule]:
        """Yield the rules of some chains. Of kube-proxy's nobody asks: there may be 400,000."""
        for chain in chains:
            for data in self._netlink.dump(wire.GETRULE, family, table, chain):
                yield read_rule(_values(data))


def read_rule(values: dict[int, bytes]) -> Rule:
    """Return a rule from its attributes, as a dump has them."""
    target, comment, plain = "", "", True
    for name, data in _expressions(values.get(_EXPRESSIONS, b"")):
        if name == "match" and _text(data.get(_XT_NAME, b"")) == "comment":
            comment = comment or _text(data.get(_XT_INFO, b"").partition(b"\0")[0])
        elif name == "target":
            target = _text(data.get(_XT_NAME, b""))
        elif name == "immediate" and (verdict := _verdict(data)):
            target = verdict
        elif name != "counter":
            plain = False
    return Rule(
        chain=_text(values[_CHAIN]),
        target=target,
        comment=comment or _user_comment(values.get(_USERDATA, b"")),
        key=int.from_bytes(values[_HANDLE], "big"),
        plain=plain,
    )


def _expressions(data: bytes) -> Iterator[tuple[str, dict[int, bytes]]]:
    for _, start, stop in attributes(data, 0, len(data)):
        values = _values_in(data, start, stop)
        inner = values.get(_EXPR_DATA, b"")
        yield _text(values.get(_EXPR_NAME, b"")), _values_in(inner, 0, len(inner))


def _verdict(data: dict[int, bytes]) -> str:
    """Return where an immediate expression sends a packet, "" if it loads a value."""
    held = _nested(data.get(_IMMEDIATE_DATA, b"")).get(_VERDICT_DATA)
    if held is None:
        return ""
    verdict = _nested(held)
    chain = _text(verdict.get(_VERDICT_CHAIN, b""))
    raw = verdict.get(_VERDICT_CODE, b"")
    return chain or _CODES.get(int.from_bytes(raw, "big", signed=True), "")


def _user_comment(data: bytes) -> str:
    """Return the comment of a rule's user data, as nft writes it: type, length, text."""
    at = 0
    while at + 2 <= len(data):
        kind, size = data[at], data[at + 1]
        if kind == 0:
            return _text(data[at + 2 : at + 2 + size])
        at += 2 + size
    return ""


def delete_rule(family: Family, table: str, rule: Rule) -> Removal:
    """Return the request to delete one rule."""
    handle = attribute(_HANDLE, struct.pack("!Q", rule.key))
    payload = string(_TABLE, table) + string(_CHAIN, rule.chain) + handle
    return _DELRULE, family, payload


def flush_chain(family: Family, table: str, chain: str) -> Removal:
    """Return the request to delete all rules of a chain."""
    return _DELRULE, family, string(_TABLE, table) + string(_CHAIN, chain)


def delete_chain(family: Family, table: str, chain: str) -> Removal:
    """Return the request to delete a chain that no rule leads to."""
    return _DELCHAIN, family, string(_TABLE, table) + string(_CHAIN_NAME, chain)


def delete_table(family: Family, table: str) -> Removal:
    """Return the request to delete a table with everything in it."""
    return wire.DELTABLE, family, string(_TABLE_NAME, table)


def _policy(values: dict[int, bytes]) -> str:
    policy = values.get(_CHAIN_POLICY)
    return "DROP" if policy is not None and int.from_bytes(policy, "big") == _DROP else "ACCEPT"


def _hook(values: dict[int, bytes]) -> int:
    number = _nested(values.get(_CHAIN_HOOK, b"")).get(_HOOK_NUMBER)
    return -1 if number is None else int.from_bytes(number, "big")


def _values(data: bytes) -> dict[int, bytes]:
    return _values_in(data, 0, len(data))


def _nested(data: bytes) -> dict[int, bytes]:
    return _values_in(data, 0, len(data))


def _values_in(data: bytes, start: int, stop: int) -> dict[int, bytes]:
    return {kind: data[a:b] for kind, a, b in attributes(data, start, stop)}


def _text(data: bytes) -> str:
    return data.rstrip(b"\0").decode("utf-8", "replace")


def rules_of(family: Family, table: str, rules: Iterable[Rule]) -> list[Removal]:
    """Return the requests to delete some rules of one table."""
    return [delete_rule(family, table, rule) for rule in rules]
