"""How a rule of another program is named, and the command that shows it."""

from __future__ import annotations

from nfproxy.insight.nodefacts import ForeignRule


def in_words(rule: ForeignRule) -> str:
    """Return which rule it is, and what it has counted."""
    count = rule.packets
    packets = "" if count is None else f", {count:,} packet" + "s" * (count != 1)
    if rule.is_policy:
        return f"policy drop of chain {rule.chain} of table {rule.table}, for what no rule accepts"
    comment = f' "{rule.comment}"' if rule.comment else ""
    handle = f", handle {rule.handle}" if rule.handle else ""
    return f"table {rule.table}, chain {rule.chain}{handle}{comment}{packets}"


def listing(rule: ForeignRule) -> str:
    """Return the command that shows a rule."""
    if rule.table.endswith("legacy)"):
        family, table, _ = rule.table.split(" ")
        option = "" if table == "filter" else f" -t {table}"
        return f"{family}tables-legacy{option} -vnL {rule.chain} --line-numbers"
    return f"nft -a list chain {rule.table} {rule.chain}"
