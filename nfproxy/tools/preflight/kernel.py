"""The kernel: may this process change its tables, and can it hold nfproxy's program?"""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from nfproxy.dataplane.probes import require_privileges
from nfproxy.errors import DataplaneError, MissingFeatureError, NfproxyError
from nfproxy.host.processes import Privileges, own_privileges
from nfproxy.model.addresses import Family
from nfproxy.netlink.sockets import NftSocket
from nfproxy.text import quoted
from nfproxy.tools.preflight.access import NODE_FAMILIES
from nfproxy.tools.preflight.examine import Check, FactSource, IfKnown
from nfproxy.tools.preflight.findings import Finding, fail, ok, warn
from nfproxy.tools.preflight.trial import ENABLED_FAMILIES, TRIAL, Trial

OLDEST_KERNEL = (5, 13)

_PROGRAM_BYTES = 1 << 17  # nfproxy's program without elements fits this

TRY_AS_ROOT = (
    "run it as root, or in a container with the capability SYS_ADMIN (kubectl debug node/…)"
)


class Process(NamedTuple):
    """
    What this process may do.

    `trouble` says why it cannot use nf_tables, None where it can. `send_limit` is the most bytes of
    a transaction, None for no limit.
    """

    privileges: Privileges
    trouble: NfproxyError | None = None
    send_limit: int | None = None


def read_process() -> Process:
    """Return what this process may do."""
    trouble: NfproxyError | None = None
    limit = None
    try:
        require_privileges()
        with NftSocket() as netlink:
            limit = netlink.send_limit
    except (MissingFeatureError, DataplaneError) as error:
        trouble = error
    return Process(own_privileges(), trouble, limit)


PROCESS = FactSource("this process", lambda _: read_process())
RELEASE = FactSource("the kernel's release", lambda _: platform.release())


def judge_privileges(process: Process) -> Finding:
    """Without CAP_NET_ADMIN a process can program nothing."""
    privileges = process.privileges
    filtered = (
        "a seccomp filter is in place" if privileges.has_seccomp_filter else "no seccomp filter"
    )
    if not privileges.may_administer_network:
        return fail(
            f"the capability CAP_NET_ADMIN is missing, {filtered}",
            "run as root, or give the container securityContext.capabilities.add: [NET_ADMIN]",
        )
    if process.trouble:
        remedy = process.trouble.remedy or "load nf_tables"
        hint = (
            "; if the seccomp profile is not RuntimeDefault, use that"
            if privileges.has_seccomp_filter
            else ""
        )
        return fail(process.trouble.what, f"{remedy}{hint}")
    found = f"CAP_NET_ADMIN, nf_tables can be reached, {filtered}"
    if process.send_limit is None:
        return ok(found)
    found += f", transactions of at most {process.send_limit >> 10} KB (user namespace)"
    if process.send_limit < _PROGRAM_BYTES:
        return fail(found, "on the host: sysctl -w net.core.wmem_max=212992")
    return ok(found)


def judge_release(release: str, trial: Trial | None) -> Finding:
    """A kernel older than the oldest tested one passes only where it loads the program."""
    version = version_numbers(release, 2)
    oldest = ".".join(map(str, OLDEST_KERNEL))
    if len(version) < 2:
        return warn(
            f"kernel release {quoted(release)} names no version", f"use Linux {oldest} or newer"
        )
    if version >= OLDEST_KERNEL:
        return ok(f"Linux {release}")
    if trial is not None and trial.place and not trial.refused:
        return warn(
            f"Linux {release} is older than {oldest}, though the program can be loaded",
            f"use Linux {oldest} or newer: nfproxy is not tested on older ones",
        )
    return fail(f"Linux {release}", f"use Linux {oldest} or newer")


def judge_program(trial: Trial, families: Sequence[Family]) -> list[Finding]:
    """The kernel accepts the daemon's program; a missing feature is named with its module."""
    if not trial.place:
        return [warn(f"nfproxy's program was not tried: {trial.obstacle}", TRY_AS_ROOT)]
    if not trial.refused:
        labels = " and ".join(family.label for family in families)
        how = (
            "loaded into a network namespace of its own, and read back"
            if trial.place == "namespace"
            else "accepted by the kernel, which validated it without loading it"
        )
        return [ok(f"nfproxy's program for {labels} was {how}")]
    report = "report it, with the version of the kernel and of libnftables"
    if not trial.missing:
        return [fail(trial.refused, report)]
    return [fail(what, remedy or report) for what, remedy in trial.missing]


def judge_families(enabled: Iterable[Family], node: Iterable[Family] | None) -> Finding:
    """
    The kernel has every family that the Node has addresses or pods of.

    `node` is None where the Node is unknown.
    """
    here = tuple(enabled)
    labels = " and ".join(family.label for family in here)
    lacking = [family.label for family in node or () if family not in here]
    if lacking:
        return fail(
            f"the kernel has {labels} alone, the Node {' and '.join(lacking)} as well",
            "sysctl -w net.ipv6.conf.all.disable_ipv6=0, at any time, or boot without "
            "ipv6.disable=1",
        )
    return ok(f"the kernel has {labels}")


def version_numbers(text: str, count: int) -> tuple[int, ...]:
    """Return the first `count` numbers of a version, () for none: "v6.1.0-13" gives (6, 1)."""
    match = re.match(r"v?(\d{1,9}(?:\.\d{1,9})*)", text.strip())
    return tuple(int(part) for part in match[1].split(".")[:count]) if match else ()


CHECKS = (
    Check("privileges", judge_privileges, (PROCESS,)),
    Check("kernel", judge_release, (RELEASE, IfKnown(TRIAL))),
    Check("program", judge_program, (TRIAL, ENABLED_FAMILIES)),
    Check("families", judge_families, (ENABLED_FAMILIES, IfKnown(NODE_FAMILIES))),
)
