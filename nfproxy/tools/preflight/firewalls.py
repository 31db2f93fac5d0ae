"""The host's firewalls: what flushes rulesets, what drops forwarded packets."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from nfproxy.errors import InputError
from nfproxy.host.paths import HostRoot
from nfproxy.host.processes import name_of, pids_in_this_network
from nfproxy.model.addresses import Family
from nfproxy.nft.schema import DROP
from nfproxy.tools.preflight.examine import Check, FactSource
from nfproxy.tools.preflight.findings import Finding, ok, or_ok, skip, warn
from nfproxy.tools.preflight.hostnft import HIDDEN, MOUNT_IT
from nfproxy.tools.preflight.ruleset import RULESET, Ruleset, family_word
from nfproxy.tools.takeover.tables import Backend, accept_command

#: What nftables.service loads: Debian and Arch, RHEL and SUSE, Alpine.
_NFTABLES = ("/etc/nftables.conf", "/etc/sysconfig/nftables.conf", "/etc/nftables.nft")
_LOADERS = {"nftables.service", "nftables"}
_IPTABLES = {"iptables.service", "ip6tables.service", "netfilter-persistent.service", "iptables"}
_FIREWALLD = "/etc/firewalld/firewalld.conf"
_WANTS = ("/etc/systemd/system", "/usr/lib/systemd/system", "/etc/runlevels")

_COMMENT = re.compile(r"#[^\n]*")
_FLUSH = re.compile(r"\bflush\s+ruleset\b")
# Only blanks before the word, not line ends: with those, a megabyte of empty lines takes for ever.
_INCLUDE = re.compile(r"^[ \t]*include\s+[\"']([^\"'\n]{1,4096})[\"']", re.MULTILINE)
_SETTING = re.compile(r"^[ \t]*(\w+)[ \t]*=[ \t]*(\S+)", re.MULTILINE)
_FILES_LIMIT = 100  # files that are read for one configuration

_REPAIRED = (
    "nfproxy notices and puts its own tables back at once, and open connections go on; rules of "
    "others, such as the network plugin's, are missing until their owners put them back"
)


class FirewallFiles(NamedTuple):
    """
    What the host's files say about its firewall services.

    `seen` says whether they can be read at all. `flushing` are the files that flush the whole
    ruleset, `reloaded` the enabled services that load them, `iptables` those that load tables of
    iptables. `firewalld` are its settings. `troubles` names files that cannot be read.
    """

    seen: bool
    flushing: tuple[str, ...] = ()
    reloaded: tuple[str, ...] = ()
    iptables: tuple[str, ...] = ()
    firewalld: Mapping[str, str] = {}
    firewalld_enabled: bool = False
    troubles: tuple[str, ...] = ()


def read_firewall_files(root: HostRoot, *, seen: bool) -> FirewallFiles:
    """Return what the host's files say; read nothing where they cannot be `seen`."""
    if not seen:
        return FirewallFiles(seen=False)
    troubles: list[str] = []
    flushing = [path for path in _NFTABLES if any(_flushes(root, path, troubles))]
    enabled = set(_enabled(root))
    return FirewallFiles(
        seen=True,
        flushing=tuple(flushing),
        reloaded=tuple(sorted(enabled & _LOADERS)),
        iptables=tuple(sorted(enabled & _IPTABLES)),
        firewalld=dict(_SETTING.findall(_text(root, _FIREWALLD, troubles))),
        firewalld_enabled="firewalld.service" in enabled,
        troubles=tuple(troubles),
    )


def _flushes(root: HostRoot, path: str, troubles: list[str]) -> Iterator[bool]:
    """Yield for a file, and for each file that it includes, whether it flushes the ruleset."""
    waiting, done = [path], set[str]()
    while waiting and len(done) < _FILES_LIMIT:
        name = waiting.pop()
        if name in done:
            continue
        done.add(name)
        text = _COMMENT.sub("", _text(root, name, troubles))
        yield bool(_FLUSH.search(text))
        for included in _INCLUDE.findall(text):
            absolute = included if included.startswith("/") else f"/etc/{included}"
            waiting += root.matches(os.path.normpath(absolute))


def _text(root: HostRoot, path: str, troubles: list[str]) -> str:
    try:
        return root.read(path) or ""
    except InputError as error:
        troubles.append(str(error))
        return ""


def _enabled(root: HostRoot) -> Iterator[str]:
    """Yield the services that start at boot: by systemd's wants, or OpenRC's run levels."""
    for directory in _WANTS:
        for name in root.names(directory):
            if directory == "/etc/runlevels" or name.endswith((".wants", ".requires")):
                yield from root.names(f"{directory}/{name}")


def read_processes(proc: Path) -> frozenset[str]:
    """Return the names of visible processes, without those in other network namespaces."""
    return frozenset(name_of(pid, proc) for pid in pids_in_this_network(proc)) - {""}


FIREWALL_FILES = FactSource(
    "the host's files",
    lambda subject: read_firewall_files(HostRoot(subject.root), seen=subject.sees_host_files),
)
PROCESSES = FactSource("processes", lambda subject: read_processes(subject.host_proc))


@or_ok("no service of the host flushes the ruleset")
def judge_flushing(files: FirewallFiles) -> Iterator[Finding]:
    """No firewall service flushes the whole ruleset, which removes the tables of all software."""
    if not files.seen:
        yield skip(HIDDEN, MOUNT_IT)
    for text in files.troubles:
        yield warn(text, "look at that file on the node")
    if files.iptables:
        yield ok(
            f"{', '.join(files.iptables)} is enabled: it loads tables of iptables and leaves "
            "nfproxy's alone"
        )
    flushing = f"{', '.join(files.flushing)} flushes the whole ruleset"
    if files.flushing and files.reloaded:
        yield warn(
            f"{flushing}, and {', '.join(files.reloaded)} is enabled: at each (re)start "
            f"{_REPAIRED}",
            "replace `flush ruleset` there by `table …; delete table …` for that file's own tables",
        )
    elif files.flushing:
        yield ok(f"{flushing}, but no service loads it")


def judge_firewalld(files: FirewallFiles, processes: Iterable[str], ruleset: Ruleset) -> Finding:
    """firewalld rejects forwarded packets unless a zone accepts them; it may flush rules, too."""
    running = "firewalld" in processes or "inet firewalld" in ruleset.tables
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


@or_ok("no chain drops forwarded packets by default")
def judge_forward_policy(ruleset: Ruleset) -> Iterator[Finding]:
    """
    No base chain drops forwarded packets by default, unless a rule lets those to endpoints pass.

    kube-proxy in iptables mode has such a rule (KUBE-FORWARD). kube-proxy in nftables mode and
    nfproxy have none: an accept in one table does not override a drop in another.
    """
    if dropping := list(dict.fromkeys(_dropping(ruleset))):
        yield warn(
            f"{', '.join(dropping)} drops forwarded packets by default, unless a rule accepts "
            "them; kube-proxy's rule that does (KUBE-FORWARD, iptables mode) goes with it",
            "let connections to Services pass, now and at every start: "
            f"{accept_command(Backend.NFT, Family.IPV4)} (or, in a chain of nftables: ct "
            "status dnat accept)",
        )
    if ruleset.legacy and ruleset.legacy_text is None:
        yield warn(
            f"iptables-legacy has tables here ({', '.join(ruleset.legacy)}), which cannot be "
            "looked into: iptables-legacy-save is missing, or the capability NET_RAW",
            "iptables-legacy -S FORWARD on the node should not begin with -P FORWARD DROP",
        )


def _dropping(ruleset: Ruleset) -> Iterator[str]:
    for chain in ruleset.chains:
        if chain.ip_hook == "forward" and chain.policy == DROP.code:
            yield f"chain {chain.name} of table {family_word(chain.family)} {chain.table}"
    if re.search(r"^:FORWARD DROP ", ruleset.legacy_text or "", re.MULTILINE):
        yield "chain FORWARD of iptables-legacy"


CHECKS = (
    Check("ruleset-flush", judge_flushing, (FIREWALL_FILES,)),
    Check("firewalld", judge_firewalld, (FIREWALL_FILES, PROCESSES, RULESET)),
    Check("forward-policy", judge_forward_policy, (RULESET,)),
)
