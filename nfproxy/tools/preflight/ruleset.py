"""
The tables and chains that are already in this network namespace, by netlink; and iptables-legacy's.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from nfproxy.dataplane import wire
from nfproxy.dataplane.netlink import Netlink
from nfproxy.errors import DataplaneError
from nfproxy.netlink.messages import attributes
from nfproxy.tools.preflight.examine import Source
from nfproxy.tools.preflight.hostroot import HostRoot

_NAME = 1  # NFTA_TABLE_NAME, and NFTA_CHAIN_TABLE
_CHAIN_NAME, _CHAIN_HOOK, _CHAIN_POLICY = 3, 4, 5
_HOOK_NUMBER = 1  # NFTA_HOOK_HOOKNUM
_DROP = 0
_FAMILIES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}
_HOOKS = ("prerouting", "input", "forward", "output", "postrouting")

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
    netlink = Netlink()
    try:
        tables = [*_tables(netlink)]
        chains = [*_chains(netlink)]
    finally:
        netlink.close()
    legacy = tuple(_legacy(proc))
    return Ruleset(tuple(tables), tuple(chains), legacy, _legacy_text(legacy))


def _tables(netlink: Netlink) -> Iterator[str]:
    for family, word in _FAMILIES.items():
        for data in netlink.dump(wire.GETTABLE, family):
            yield f"{word} {_text(_values(data).get(_NAME, b''))}"


def _chains(netlink: Netlink) -> Iterator[Chain]:
    for family, word in _FAMILIES.items():
        for data in netlink.dump(wire.GETCHAIN, family):
            values = _values(data)
            hook = ""
            if _CHAIN_HOOK in values and word in ("ip", "ip6", "inet"):
                number = int.from_bytes(_values(values[_CHAIN_HOOK]).get(_HOOK_NUMBER, b""), "big")
                hook = _HOOKS[number] if number < len(_HOOKS) else "other"
            drops = bool(hook) and _CHAIN_POLICY in values and not any(values[_CHAIN_POLICY])
            table = _text(values.get(_NAME, b""))
            yield Chain(word, table, _text(values.get(_CHAIN_NAME, b"")), hook, drops)


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


def _values(data: bytes) -> dict[int, bytes]:
    try:
        found = attributes(data, 0, len(data))
        return {kind: data[a:b] for kind, a, b in found}
    except (IndexError, KeyError) as error:
        raise DataplaneError(f"cannot read the kernel's tables: {error!r}") from error


def _text(data: bytes) -> str:
    return data.rstrip(b"\0").decode("utf-8", "replace")


RULESET = Source("the ruleset", lambda subject: read_ruleset(subject.proc))
