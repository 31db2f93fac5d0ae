"""
What the host's firewall services will do, by their configuration.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from nfproxy.errors import InputError
from nfproxy.tools.preflight.facts import HostFiles
from nfproxy.tools.preflight.read.files import Root

#: What nftables.service loads: Debian and Arch, RHEL and SUSE, Alpine.
_NFTABLES = ("/etc/nftables.conf", "/etc/sysconfig/nftables.conf", "/etc/nftables.nft")
_LOADERS = {"nftables.service", "nftables"}
_IPTABLES = {"iptables.service", "ip6tables.service", "netfilter-persistent.service", "iptables"}
_FIREWALLD = "/etc/firewalld/firewalld.conf"
_WANTS = ("/etc/systemd/system", "/usr/lib/systemd/system", "/etc/runlevels")
_PINS = ("/sys/fs/bpf/cilium", "/sys/fs/bpf/tc/globals")

_COMMENT = re.compile(r"#[^\n]*")
_FLUSH = re.compile(r"\bflush\s+ruleset\b")
# blanks before a word without the line ends: looking for those from each line on takes for ever
_INCLUDE = re.compile(r"^[ \t]*include\s+[\"']([^\"'\n]{1,4096})[\"']", re.MULTILINE)
_SETTING = re.compile(r"^[ \t]*(\w+)[ \t]*=[ \t]*(\S+)", re.MULTILINE)
_FILES = 100  # that are read of one configuration


def read_host_files(root: Root, *, seen: bool) -> HostFiles:
    """Return what the host's files say; nothing is read where they cannot be `seen`."""
    pins = tuple(name for directory in _PINS for name in _pins(root, directory))
    if not seen:
        return HostFiles(seen=False, pins=pins)
    troubles: list[str] = []
    flushing = [path for path in _NFTABLES if any(_flushes(root, path, troubles))]
    enabled = set(_enabled(root))
    return HostFiles(
        seen=True,
        flushing=tuple(flushing),
        reloaded=tuple(sorted(enabled & _LOADERS)),
        iptables=tuple(sorted(enabled & _IPTABLES)),
        firewalld=dict(_SETTING.findall(_text(root, _FIREWALLD, troubles))),
        firewalld_enabled="firewalld.service" in enabled,
        pins=pins,
        troubles=tuple(troubles),
    )


def _flushes(root: Root, path: str, troubles: list[str]) -> Iterator[bool]:
    """Yield of a file, and each that it includes, whether it flushes the ruleset."""
    waiting, done = [path], set[str]()
    while waiting and len(done) < _FILES:
        name = waiting.pop()
        if name in done:
            continue
        done.add(name)
        text = _COMMENT.sub("", _text(root, name, troubles))
        yield bool(_FLUSH.search(text))
        for included in _INCLUDE.findall(text):
            absolute = included if included.startswith("/") else f"/etc/{included}"
            waiting += root.matches(os.path.normpath(absolute))


def _text(root: Root, path: str, troubles: list[str]) -> str:
    try:
        return root.read(path) or ""
    except InputError as error:
        troubles.append(str(error))
        return ""


def _enabled(root: Root) -> Iterator[str]:
    """Yield the services that are started at boot: systemd's wants, OpenRC's run levels."""
    for directory in _WANTS:
        for name in root.names(directory):
            if directory == "/etc/runlevels" or name.endswith((".wants", ".requires")):
                yield from root.names(f"{directory}/{name}")


def _pins(root: Root, directory: str) -> Iterator[str]:
    """Yield the names of pinned BPF objects that network plugins make."""
    for name in root.names(directory):
        if directory.endswith("cilium"):
            yield f"cilium/{name}"
        elif name.startswith(("cilium_", "cali_")):
            yield name
