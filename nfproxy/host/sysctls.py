"""
The sysctls of conntrack that kube-proxy writes at start, from the same configuration.

Computed first, written then, and only where the value differs: what already fits needs no right
to write.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from nfproxy.config.durations import SECOND, Duration
from nfproxy.config.kubeproxy import Conntrack
from nfproxy.errors import MissingFeatureError

_DIRECTORY = "sys/net/netfilter/nf_conntrack_"
_HASH_SIZE = "module/nf_conntrack/parameters/hashsize"

#: No more entries than this by ``maxPerCore``, however many processors there are.
_MOST_BY_CORES = 1 << 20

_REMEDY = (
    "Run nfproxy once with --init-only in a privileged init container, which may write it, or "
    "load the module nf_conntrack if the file does not exist, or set {field} to {off} to leave it "
    "alone"
)


class Sysctl(NamedTuple):
    """One value to write: its name without ``nf_conntrack_``, and the field that asks for it."""

    name: str
    value: int
    field: str


def wanted_sysctls(config: Conntrack, cpus: int) -> tuple[Sysctl, ...]:
    """Return what ``conntrack`` of the configuration asks for, in the order of writing."""
    wanted: list[Sysctl] = []
    if config.max_per_core > 0:
        wanted.append(Sysctl("max", _max(config, cpus), "maxPerCore"))
    wanted += _timeout("tcp_timeout_established", config.tcp_established_timeout, "tcpEstablished")
    wanted += _timeout("tcp_timeout_close_wait", config.tcp_close_wait_timeout, "tcpCloseWait")
    if config.tcp_be_liberal:
        wanted.append(Sysctl("tcp_be_liberal", 1, "tcpBeLiberal"))
    wanted += _timeout("udp_timeout", config.udp_timeout, "udp")
    wanted += _timeout("udp_timeout_stream", config.udp_stream_timeout, "udpStream")
    return tuple(wanted)


def _max(config: Conntrack, cpus: int) -> int:
    """
    Return how many connections conntrack shall hold.

    ``min`` is not capped, and does not count where the cores alone come to more than the cap.
    """
    by_cores = config.max_per_core * cpus
    if by_cores > _MOST_BY_CORES:
        return _MOST_BY_CORES
    return max(by_cores, config.min)


def _timeout(name: str, duration: Duration, field: str) -> list[Sysctl]:
    """Return a timeout in whole seconds, rounded down; nothing for 0."""
    return [Sysctl(name, duration // SECOND, f"{field}Timeout")] if duration > 0 else []


def cpu_count(sys: Path = Path("/sys")) -> int:
    """Return the logical processors of the machine, else those this process may use."""
    names = (sys / "devices/system/cpu").glob("cpu[0-9]*/topology")
    found = sum(1 for path in names if re.fullmatch(r"cpu\d+", path.parent.name))
    return found or len(os.sched_getaffinity(0))


def set_conntrack_sysctls(
    config: Conntrack, *, proc: Path = Path("/proc"), sys: Path = Path("/sys")
) -> list[str]:
    """
    Set conntrack's sysctls and return what changed, in words.

    Raises MissingFeatureError at the first that cannot be set; kube-proxy, too, does not
    start then. The table of buckets grows with the maximum, and is one for all
    network namespaces of the machine.
    """
    changed: list[str] = []
    for name, value, field in wanted_sysctls(config, cpu_count(sys)):
        changed += _set(proc / f"{_DIRECTORY}{name}", value, field, at_least=False)
        if name == "max":
            changed += _set(sys / _HASH_SIZE, value // 4, field, at_least=True)
    return changed


def _set(path: Path, value: int, field: str, *, at_least: bool) -> list[str]:
    try:
        old = path.read_text("ascii").strip()
        if old == str(value) or (at_least and int(old) >= value):
            return []
        path.write_text(f"{value}\n", "ascii")
    except (OSError, ValueError) as error:
        off = "false" if field == "tcpBeLiberal" else "0"
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        remedy = _REMEDY.format(field=f"conntrack.{field}", off=off)
        raise MissingFeatureError(f"Cannot set {path} to {value}: {reason}. {remedy}.") from error
    return [f"{path}: {old} → {value}"]
