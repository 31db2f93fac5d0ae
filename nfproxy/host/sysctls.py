"""
The conntrack sysctls that kube-proxy writes at start, from the same configuration.

`wanted_sysctls` computes the values; `set_conntrack_sysctls` writes those that differ. The maximum
and the hash buckets are raised and never lowered (kubernetes/kubernetes#142035). So a node whose
values already fit needs no privilege to write them.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from nfproxy.config.durations import SECOND, Duration
from nfproxy.config.kubeproxy import Conntrack
from nfproxy.errors import ConfigError, MissingFeatureError, reason_of

_DIRECTORY = "sys/net/netfilter"
_PREFIX = "nf_conntrack_"
_BUCKETS = "buckets"

#: The most entries that ``maxPerCore`` asks for, however many processors there are.
_MOST_BY_CORES = 1 << 20

#: Errors in a container, where /proc/sys is read-only or belongs to another user namespace.
_NOT_ALLOWED = (errno.EROFS, errno.EACCES, errno.EPERM)

#: Values that are written only where the present one is lower.
_RAISED_ONLY = ("max", _BUCKETS)

_ABSENT = "the kernel has no connection tracking here, and did not load it on request"
_LOAD = "modprobe nf_conntrack nf_conntrack_netlink (CONFIG_NF_CONNTRACK, CONFIG_NF_CT_NETLINK)"


class Sysctl(NamedTuple):
    """A value to write: its name without ``nf_conntrack_``, and the field that asks for it."""

    name: str
    value: int
    field: str


def wanted_sysctls(config: Conntrack, cpus: int) -> tuple[Sysctl, ...]:
    """Return the sysctls that ``conntrack`` of the configuration asks for, in order of writing."""
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
    Return how many connections conntrack should be able to hold.

    The cap is for the cores' part: ``min`` may exceed it. If the cores alone exceed the cap,
    ``min`` does not count (as in kube-proxy).
    """
    by_cores = config.max_per_core * cpus
    if by_cores > _MOST_BY_CORES:
        return _MOST_BY_CORES
    return max(by_cores, config.min)


def _timeout(name: str, duration: Duration, field: str) -> list[Sysctl]:
    """Return a timeout in whole seconds, rounded down; nothing for 0."""
    return [Sysctl(name, duration // SECOND, f"{field}Timeout")] if duration > 0 else []


def cpu_count(sys: Path = Path("/sys")) -> int:
    """Return how many processors are online; if unknown, how many this process may use."""
    try:
        text = (sys / "devices/system/cpu/online").read_text("ascii")
        return _count(text.strip())
    except (OSError, ValueError):
        return len(os.sched_getaffinity(0))


def _count(ranges: str) -> int:
    """Return how many numbers a list of the kernel holds, such as ``0-3,8``. Raises ValueError."""
    numbers: set[int] = set()
    for text in ranges.split(","):
        match = re.fullmatch(r"(\d{1,7})(?:-(\d{1,7}))?", text, re.ASCII)
        if match is None:
            raise ValueError(ranges)
        numbers.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    return len(numbers)


class Refusal(NamedTuple):
    """A value that this process cannot write, and the system's reason."""

    sysctl: Sysctl
    reason: str

    @property
    def is_harmless(self) -> bool:
        """Whether the node works without it: fewer hash buckets only make look-ups slower."""
        return self.sysctl.name == _BUCKETS


class SysctlChanges(NamedTuple):
    """The changes as texts (``path: old → new``), and the values that could not be written."""

    changed: list[str]
    refused: list[Refusal]


def set_conntrack_sysctls(
    config: Conntrack,
    load: Callable[[], None],
    *,
    proc: Path = Path("/proc"),
    sys: Path = Path("/sys"),
) -> SysctlChanges:
    """
    Set conntrack's sysctls below `proc`; a refusal of one does not keep it from trying the others.

    If there are no such sysctls, `load` is called once to let the kernel load the module. The
    number of buckets grows with the maximum; all network namespaces of the machine share it.
    Raises ConfigError if `proc` has no sysctls of the network, MissingFeatureError for a sysctl
    that does not exist or does not accept the value. Buckets are a refusal in both cases.
    """
    wanted = wanted_sysctls(config, cpu_count(sys))
    directory = proc / _DIRECTORY
    changes = SysctlChanges([], [])
    if not wanted:
        return changes
    if not directory.parent.is_dir():
        raise ConfigError(
            f"--proc: {directory.parent} does not exist", "mount the node's /proc/sys/net there"
        )
    if not (directory / f"{_PREFIX}{wanted[0].name}").exists():
        load()
    for sysctl in wanted:
        _set(directory, sysctl, changes)
        # Since Linux 4.7 this sysctl can be written, too; the module's parameter cannot.
        if sysctl.name == "max":
            _set(directory, Sysctl(_BUCKETS, sysctl.value // 4, sysctl.field), changes)
    return changes


def _set(directory: Path, sysctl: Sysctl, changes: SysctlChanges) -> None:
    path = directory / f"{_PREFIX}{sysctl.name}"
    value = sysctl.value
    try:
        old = path.read_text("ascii").strip()
        # A larger table than asked for is another owner's decision, and harms nothing.
        if old == str(value) or (sysctl.name in _RAISED_ONLY and int(old) >= value):
            return
        path.write_text(f"{value}\n", "ascii")
    except (OSError, ValueError) as error:
        reason = reason_of(error)
        refusal = Refusal(sysctl, reason)
        not_allowed = isinstance(error, OSError) and error.errno in _NOT_ALLOWED
        if not_allowed or refusal.is_harmless:
            changes.refused.append(refusal)
            return
        if isinstance(error, FileNotFoundError):
            raise MissingFeatureError(f"{path} does not exist: {_ABSENT}", _LOAD) from error
        raise MissingFeatureError(
            f"cannot set {path} to {value}: {reason}", f"set {_off(sysctl)} to leave it alone"
        ) from error
    changes.changed.append(f"{path}: {old} → {value}")


def refused_error(refused: Sequence[Refusal], proc: Path = Path("/proc")) -> MissingFeatureError:
    """
    Return the error that names values that could not be set and matter, and what to do.

    If `proc` is not the process's own, this process is the init container that the remedy would
    recommend: then the remedy names what that container needs.
    """
    what = ", ".join(f"{one.sysctl.name} to {one.sysctl.value} ({one.reason})" for one in refused)
    lines = " ".join(f"{_FULL_NAME}{one.sysctl.name}={one.sysctl.value}" for one in refused)
    fields = ", ".join(dict.fromkeys(_off(one.sysctl) for one in refused))
    on_node = f"run on the node: sysctl -w {lines}; or set {fields} to leave them alone"
    if proc == Path("/proc"):
        return MissingFeatureError(
            f"cannot set net.netfilter.nf_conntrack_… from here: {what}",
            "run `nfproxy run --init-only --proc DIR` before, in an init container with the node's "
            f"/proc/sys/net mounted at DIR/sys/net; or {on_node}",
        )
    return MissingFeatureError(
        f"cannot set net.netfilter.nf_conntrack_… below {proc / 'sys/net'}: {what}",
        "mount the node's /proc/sys/net there without readOnly, with hostNetwork, user 0, the "
        "capability NET_ADMIN, and a security module (AppArmor, SELinux) that allows it; or "
        f"{on_node}; or go without the init container (kustomize component without-prepare, "
        "prepare.enabled=false in the chart)",
    )


def refused_buckets(refused: Sequence[Refusal]) -> str:
    """Return a line about hash buckets that could not be added; "" where that was not refused."""
    for one in refused:
        if one.is_harmless:
            return (
                f"cannot set {_FULL_NAME}{_BUCKETS} to {one.sysctl.value}: {one.reason}; with very "
                "many connections, look-ups are slower; to mend that, run on the node: "
                f"sysctl -w {_FULL_NAME}{_BUCKETS}={one.sysctl.value}"
            )
    return ""


_FULL_NAME = f"net.netfilter.{_PREFIX}"


def _off(sysctl: Sysctl) -> str:
    """Return the setting that leaves a sysctl alone."""
    return f"conntrack.{sysctl.field} to {'false' if sysctl.field == 'tcpBeLiberal' else '0'}"
