"""
/proc: this process, the others, the network's settings.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from nfproxy.dataplane.diagnose import require_privileges
from nfproxy.errors import InputError, MissingFeatureError
from nfproxy.tools.preflight.facts import Conntrack, Memory, Process, Processes, Sysctls
from nfproxy.tools.preflight.read.files import Root

_LIMITLESS = 1 << 60  # cgroup v1 says "no limit" by a number near 2^63
_SYSCTLS = (
    "ipv4.ip_forward",
    "ipv6.conf.all.forwarding",
    "ipv4.ip_local_port_range",
    "ipv4.ip_local_reserved_ports",
    "bridge.bridge-nf-call-iptables",
    "bridge.bridge-nf-call-ip6tables",
)
_DEFAULT_ROUTE = "00000000"


def read_process() -> Process:
    """Return what this process may do."""
    status = dict(
        line.partition(":")[::2]
        for line in Path("/proc/self/status").read_text("ascii", "replace").splitlines()
    )
    try:
        require_privileges()
        trouble = ""
    except MissingFeatureError as error:
        trouble = str(error)
    capabilities = int(status.get("CapEff", "0").strip() or "0", 16)
    return Process(capabilities, status.get("Seccomp", "0").strip() not in ("", "0"), trouble)


def read_processes(proc: Path) -> Processes:
    """
    Return the processes that can be seen, without those known to be in another network namespace.
    """
    here = Path("/proc/self/ns/net").readlink()
    names: dict[int, str] = {}
    for path in proc.iterdir():
        if path.name.isdigit() and _namespace(path) in (None, here):
            try:
                names[int(path.name)] = (path / "comm").read_text("utf-8", "replace").strip()
            except OSError:
                continue  # it has ended
    return Processes(names)


def _namespace(process: Path) -> Path | None:
    """Return the network namespace of a process, None where that may not be known."""
    try:
        return (process / "ns/net").readlink()
    except OSError:
        return None


def read_sysctls(proc: Path) -> Sysctls:
    """Return the settings that are judged, those of each interface included."""
    root = Root(proc / "sys/net")
    names = [*_SYSCTLS, *(f"ipv4.conf.{name}.rp_filter" for name in _interfaces(root))]
    found: dict[str, str] = {}
    for name in names:
        area, _, rest = name.partition(".")
        path = (
            f"ipv4/conf/{rest.removeprefix('conf.').removesuffix('.rp_filter')}/rp_filter"
            if name.endswith(".rp_filter")  # an interface's name may have dots
            else f"{area}/{rest.replace('.', '/')}"
        )
        try:
            text = root.read(path)
        except InputError:
            continue
        if text is not None:
            found[name] = text.strip()
    return found


def _interfaces(root: Root) -> list[str]:
    return root.names("ipv4/conf")


def read_default_routes(proc: Path) -> frozenset[str]:
    """Return the interfaces that default routes go over, of IPv4."""
    text = Root(proc).read("net/route") or ""
    rows = [line.split() for line in text.splitlines()[1:]]
    return frozenset(row[0] for row in rows if len(row) > 7 and row[1] == row[7] == _DEFAULT_ROUTE)


def read_conntrack(proc: Path) -> Conntrack:
    """Return how full the table of connections is."""
    root = Root(proc / "sys/net/netfilter")
    most = proc / "sys/net/netfilter/nf_conntrack_max"
    return Conntrack(
        entries=_number(root.read("nf_conntrack_count")),
        most=_number(root.read("nf_conntrack_max")),
        buckets=_number(root.read("nf_conntrack_buckets")),
        writable=os.access(most, os.W_OK),
    )


def read_memory(proc: Path, sys: Path) -> Memory:
    """Return the least memory limit of our control group and those it is in."""
    limits = [
        limit
        for line in (proc / "self/cgroup").read_text("utf-8", "replace").splitlines()
        for limit in _limits(sys / "fs/cgroup", *line.split(":", 2)[1:])
    ]
    return Memory(min(limits, default=None))


def _limits(cgroups: Path, controllers: str, path: str) -> Iterator[int]:
    """Yield the limits of a group and of those above: version 2 names no controllers."""
    if controllers and "memory" not in controllers.split(","):
        return
    name = "memory/memory.limit_in_bytes" if controllers else "memory.max"
    base, _, file = name.rpartition("/")
    folder = Root(cgroups / base)
    parts = [part for part in path.split("/") if part and part != ".."]
    for length in range(len(parts) + 1):
        try:
            limit = _number(folder.read("/".join((*parts[:length], file))))
        except InputError:
            continue
        if limit is not None and limit < _LIMITLESS:
            yield limit


def _number(text: str | None) -> int | None:
    match = re.fullmatch(r"\d{1,20}", (text or "").strip(), re.ASCII)
    return int(match[0]) if match else None
