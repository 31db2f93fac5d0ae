"""
The tables and chains that are already in this network namespace, by netlink; and iptables-legacy's.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from nfproxy.host.paths import HostRoot
from nfproxy.netlink.nftables import FAMILY_WORDS
from nfproxy.netlink.sockets import NftSocket
from nfproxy.nft.schema import DROP
from nfproxy.tools.preflight.examine import FactSource

_SAVE_S = 4.0  # for iptables-legacy-save


class Chain(NamedTuple):
    """A chain of nf_tables; `hook` is "" for a regular chain, `drops` says its policy is drop."""

    family: str
    table: str
    name: str
    hook: str = ""
    drops: bool = False


class Ruleset(NamedTuple):
    """
    The tables (``ip kube-proxy``) and chains in this network namespace.

    `legacy` are the tables of iptables-legacy (``ip nat``), `legacy_text` is what
    iptables-legacy-save prints of them, None where it cannot be called.
    """

    tables: tuple[str, ...] = ()
    chains: tuple[Chain, ...] = ()
    legacy: tuple[str, ...] = ()
    legacy_text: str | None = None


def read_ruleset(proc: Path) -> Ruleset:
    """Return the tables and chains of every family. Raises DataplaneError."""
    with NftSocket() as netlink:
        tables, chains = netlink.tables(), netlink.chains()
    legacy = tuple(_legacy(proc))
    return Ruleset(
        tuple(f"{_word(row.family)} {row.name}" for row in tables),
        tuple(
            Chain(
                _word(row.family),
                row.table,
                row.name,
                row.ip_hook,
                drops=bool(row.ip_hook) and row.policy == DROP.code,
            )
            for row in chains
        ),
        legacy,
        _legacy_text(legacy),
    )


def _word(family: int) -> str:
    return FAMILY_WORDS.get(family, str(family))


def _legacy(proc: Path) -> Iterator[str]:
    """Yield the tables of iptables-legacy, which are not in nf_tables."""
    root = HostRoot(proc)
    for word, name in (("ip", "ip_tables_names"), ("ip6", "ip6_tables_names")):
        for table in (root.read(f"net/{name}") or "").split():
            yield f"{word} {table}"


def _legacy_text(tables: tuple[str, ...]) -> str | None:
    """Return what iptables-legacy-save prints, "" without tables, None where it fails."""
    texts: list[str] = []
    for family in dict.fromkeys(name.split()[0] for name in tables):
        command = "iptables-legacy-save" if family == "ip" else "ip6tables-legacy-save"
        found = shutil.which(command, path="/usr/sbin:/sbin:/usr/bin")
        if found is None:
            return None
        try:
            done = subprocess.run(
                [found], capture_output=True, timeout=_SAVE_S, check=True, stdin=subprocess.DEVNULL
            )
        except (OSError, subprocess.SubprocessError):
            return None
        texts.append(done.stdout.decode("utf-8", "replace"))
    return "".join(texts)


RULESET = FactSource("the ruleset", lambda subject: read_ruleset(subject.proc))
