"""Connection tracking: is there room in the kernel's table?"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from nfproxy.host.paths import HostRoot
from nfproxy.host.sysctls import cpu_count, wanted_sysctls
from nfproxy.tools.preflight.examine import Check, FactSource, Subject
from nfproxy.tools.preflight.findings import Finding, note, ok, warn

_FULL_PERCENT = 80
_ENTRIES_PER_BUCKET = 8


class ConntrackTable(NamedTuple):
    """
    The entries in the table, their limit, and the hash buckets; None where it is not loaded.

    `is_writable` says whether this process may change the limit.
    """

    entries: int | None
    limit: int | None
    buckets: int | None
    is_writable: bool


def read_conntrack(proc: Path) -> ConntrackTable:
    """Return how full the table is."""
    root = HostRoot(proc / "sys/net/netfilter")
    return ConntrackTable(
        entries=whole_number(root.read("nf_conntrack_count")),
        limit=whole_number(root.read("nf_conntrack_max")),
        buckets=whole_number(root.read("nf_conntrack_buckets")),
        is_writable=os.access(root.directory / "nf_conntrack_max", os.W_OK),
    )


def whole_number(text: str | None) -> int | None:
    """Return the number that a file of the kernel holds, None for anything else."""
    match = re.fullmatch(r"\d{1,20}", (text or "").strip(), re.ASCII)
    return int(match[0]) if match else None


def _wanted_limit(subject: Subject) -> int | None:
    wanted = wanted_sysctls(subject.config.conntrack, cpu_count())
    return next((sysctl.value for sysctl in wanted if sysctl.name == "max"), None)


CONNTRACK = FactSource("conntrack", lambda subject: read_conntrack(subject.proc))
#: The least limit that the configuration asks for, None for none.
WANTED_LIMIT = FactSource("the configured limit of conntrack", _wanted_limit)


def judge_conntrack(found: ConntrackTable, wanted: int | None) -> Iterator[Finding]:
    """
    The table has room: each connection takes an entry, and a full table refuses new ones.

    `wanted` is the least limit that nfproxy asks for, None where it leaves the limit alone.
    """
    if found.limit is None:
        yield warn(
            "connection tracking is not loaded, or its sysctls cannot be read",
            "modprobe nf_conntrack; the kernel also loads it with nfproxy's first rule",
        )
        return
    if found.entries is not None:
        percent = 100 * found.entries // max(found.limit, 1)
        text = f"{found.entries} of {found.limit} connections are in the table ({percent} %)"
        is_full = percent >= _FULL_PERCENT
        remedy = f"sysctl -w net.netfilter.nf_conntrack_max={2 * found.limit}"
        yield warn(text, remedy) if is_full else ok(text)
    # nfproxy raises a lower limit.
    if wanted is not None and wanted < found.limit:
        yield ok(
            f"nf_conntrack_max is {found.limit}; nfproxy needs {wanted} or more, and leaves it as "
            "it is (conntrack.maxPerCore, conntrack.min)"
        )
    elif wanted is not None and wanted > found.limit:
        text = f"nf_conntrack_max is {found.limit}; nfproxy will set it to {wanted}"
        yield ok(text if found.is_writable else f"{text}, in its init container `prepare`")
    # nfproxy makes room for a quarter of the limit that it asks for, and removes no buckets.
    buckets, limit = found.buckets, max(found.limit, wanted or 0)
    if buckets is not None and limit > _ENTRIES_PER_BUCKET * max(buckets, (wanted or 0) // 4):
        yield note(
            f"{buckets} buckets for {limit} connections: looking one up is slow",
            f"sysctl -w net.netfilter.nf_conntrack_buckets={limit // 4}",
        )


CHECKS = (Check("conntrack", judge_conntrack, (CONNTRACK, WANTED_LIMIT)),)
