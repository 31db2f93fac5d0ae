"""
The tables and chains that are already in this network namespace, by netlink; and iptables-legacy's.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from nfproxy.errors import NfproxyError
from nfproxy.model.addresses import FAMILIES
from nfproxy.netlink.nftables import FAMILY_WORDS, ChainRow
from nfproxy.netlink.sockets import NftSocket
from nfproxy.tools.preflight.examine import FactSource
from nfproxy.tools.takeover import legacy

_SAVE_S = 4.0  # for iptables-legacy-save


class Ruleset(NamedTuple):
    """
    The tables (``ip kube-proxy``) and chains in this network namespace.

    `legacy` are the tables of iptables-legacy (``ip nat``), `legacy_text` is what
    iptables-legacy-save prints of them, None where it cannot be called.
    """

    tables: tuple[str, ...] = ()
    chains: tuple[ChainRow, ...] = ()
    legacy: tuple[str, ...] = ()
    legacy_text: str | None = None


def read_ruleset(proc: Path) -> Ruleset:
    """Return the tables and chains of every family. Raises DataplaneError."""
    with NftSocket() as netlink:
        tables, chains = netlink.tables(), netlink.chains()
    names = tuple(f"{family_word(row.family)} {row.name}" for row in tables)
    return Ruleset(names, tuple(chains), *_legacy(proc))


def family_word(family: int) -> str:
    """Return nft's word for a family."""
    return FAMILY_WORDS.get(family, str(family))


def _legacy(proc: Path) -> tuple[tuple[str, ...], str | None]:
    """Return the tables of iptables-legacy, which are not in nf_tables, and their content."""
    present = {family: legacy.table_names(family, proc) for family in FAMILIES}
    tables = [f"{family.table} {name}" for family, names in present.items() for name in names]
    try:
        texts = [legacy.save(f, timeout_s=_SAVE_S) for f, names in present.items() if names]
    except NfproxyError:
        return tuple(tables), None
    return tuple(tables), "".join(texts)


RULESET = FactSource("the ruleset", lambda subject: read_ruleset(subject.proc))
