"""
Firewalls: what flushes rulesets, what drops forwarded packets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from nfproxy.model.addresses import Family
from nfproxy.tools.preflight.facts import HostFiles, Processes, Ruleset
from nfproxy.tools.preflight.findings import Verdict, ok, warn
from nfproxy.tools.takeover.tables import Backend, accept_command

_REPAIRED = (
    "nfproxy notices and puts its own tables back at once, and open connections go on; rules of "
    "others, such as the network plugin's, are gone until they are put back"
)


def reload(files: HostFiles) -> list[Verdict]:
    """A firewall service that flushes the whole ruleset removes everybody's tables."""
    if not files.seen:
        return [
            warn(
                "the host's firewall configuration was not looked at: this is a container",
                "mount the host's / read-only, and name it with --host-root",
            )
        ]
    verdicts = [warn(text, "look at that file on the node") for text in files.troubles]
    if files.iptables:
        verdicts.append(
            ok(
                f"{', '.join(files.iptables)} is enabled: it loads tables of iptables and leaves "
                "nfproxy's alone"
            )
        )
    if files.flushing and files.reloaded:
        verdicts.append(
            warn(
                f"{', '.join(files.flushing)} flushes the whole ruleset, and "
                f"{', '.join(files.reloaded)} is enabled: at each (re)start {_REPAIRED}",
                "replace `flush ruleset` there by `table …; delete table …` for that file's own "
                "tables",
            )
        )
    elif files.flushing:
        verdicts.append(
            ok(f"{', '.join(files.flushing)} flushes the whole ruleset, but no service loads it")
        )
    return verdicts or [ok("no service of the host flushes the ruleset")]


def firewalld(files: HostFiles, processes: Processes, ruleset: Ruleset) -> Verdict:
    """firewalld rejects what it is not told to forward, and on a full flush removes our tables."""
    running = "firewalld" in processes.names.values() or "inet firewalld" in ruleset.tables
    if not running:
        enabled = files.firewalld_enabled
        return ok(f"firewalld does not run{', though it is enabled' if enabled else ''}")
    flushes = files.firewalld.get("FlushAllOnReload", "").lower() == "yes"
    iptables = files.firewalld.get("FirewallBackend", "") == "iptables"
    more = (
        f" With FlushAllOnReload it flushes rules on each reload: {_REPAIRED}." if flushes else ""
    )
    backend = "iptables" if iptables else "nftables"
    return warn(
        f"firewalld runs ({backend} backend): it rejects forwarded packets that no zone accepts, "
        f"those to Service endpoints included.{more}",
        "firewall-cmd --permanent --zone=trusted --add-source=POD-CIDR (and the plugin's "
        "interfaces: --add-interface=cni0), then firewall-cmd --reload; or disable firewalld",
    )


def forwarding_policy(ruleset: Ruleset) -> list[Verdict]:
    """
    A base chain that drops by default needs rules that let packets to endpoints pass.

    kube-proxy in iptables mode has such rules (KUBE-FORWARD); in nftables mode it has none, and
    so has nfproxy: an accept in one table does not override a drop in another.
    """
    found = list(dict.fromkeys(_dropping(ruleset)))
    verdicts = []
    if found:
        verdicts.append(
            warn(
                f"{', '.join(found)} drops forwarded packets by default, unless a rule accepts "
                "them; kube-proxy's rule that does (KUBE-FORWARD, iptables mode) goes with it",
                "let connections to Services pass, now and at every start: "
                f"{accept_command(Backend.NFT, Family.IPV4)} (or, in a chain of nftables: ct "
                "status dnat accept)",
            )
        )
    if ruleset.legacy and ruleset.legacy_text is None:
        verdicts.append(
            warn(
                f"iptables-legacy has tables here ({', '.join(ruleset.legacy)}), which cannot be "
                "looked into: iptables-legacy-save is missing, or the capability NET_RAW",
                "iptables-legacy -S FORWARD on the node should not begin with -P FORWARD DROP",
            )
        )
    return verdicts or [ok("no chain drops forwarded packets by default")]


def _dropping(ruleset: Ruleset) -> Iterator[str]:
    for chain in ruleset.chains:
        if chain.hook == "forward" and chain.drops:
            yield f"chain {chain.name} of table {chain.family} {chain.table}"
    if re.search(r"^:FORWARD DROP ", ruleset.legacy_text or "", re.MULTILINE):
        yield "chain FORWARD of iptables-legacy"
