"""Memory: is the container's limit enough for the Services of this cluster?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from nfproxy.errors import InputError
from nfproxy.host.paths import HostRoot
from nfproxy.tools.preflight.access import ACCESS, ApiAccess
from nfproxy.tools.preflight.conntrack import whole_number
from nfproxy.tools.preflight.examine import Check, FactSource, IfKnown
from nfproxy.tools.preflight.findings import Finding, fail, ok, warn

_LIMITLESS = 1 << 60  # cgroup v1 says "no limit" by a number near 2^63
#: The daemon's resident bytes, measured with 50 Services of 4 endpoints and 10,000 of 10.
_SMALL, _BYTES_PER_SERVICE = 59_000_000, 3_000
#: The kernel charges the tables to the container that fills them: each element, of which a Service
#: has twelve here (frontend, cluster IP, endpoints), and its frontend's counter on each processor
#: that the machine may have.
_KERNEL_BYTES_PER_SERVICE, _COUNTER_BYTES = 12 * 130, 16
_ROOM = 1.5  # for a change of everything (1.3), and for Services with more of everything
_MI = 1 << 20


def read_memory_limit(proc: Path, sys: Path) -> int | None:
    """Return the least limit of our control group and those above it, in bytes; None for none."""
    limits = [
        limit
        for line in (proc / "self/cgroup").read_text("utf-8", "replace").splitlines()
        for limit in _limits(sys / "fs/cgroup", *line.split(":", 2)[1:])
    ]
    return min(limits, default=None)


def _limits(cgroups: Path, controllers: str, path: str) -> Iterator[int]:
    """Yield the limits of a group and of those above it; version 2 names no `controllers`."""
    if controllers and "memory" not in controllers.split(","):
        return
    name = "memory/memory.limit_in_bytes" if controllers else "memory.max"
    base, _, file = name.rpartition("/")
    folder = HostRoot(cgroups / base)
    parts = [part for part in path.split("/") if part and part != ".."]
    for length in range(len(parts) + 1):
        try:
            limit = whole_number(folder.read("/".join((*parts[:length], file))))
        except InputError:
            continue
        if limit is not None and limit < _LIMITLESS:
            yield limit


def read_possible_processors(sys: Path) -> int | None:
    """Return for how many processors the kernel keeps counters; None where it does not say."""
    try:
        text = HostRoot(sys / "devices/system/cpu").read("possible")
    except InputError:
        return None
    last = whole_number((text or "").rpartition("-")[2])  # 0-127
    return None if last is None else last + 1


MEMORY = FactSource("memory", lambda subject: read_memory_limit(subject.proc, Path("/sys")))

PROCESSORS = FactSource(
    "possible processors", lambda subject: read_possible_processors(Path("/sys"))
)


def judge_memory(
    limit: int | None, access: ApiAccess | None, processors: int | None = None
) -> Finding:
    """
    The limit covers what was measured, and the kernel's memory for the tables.

    Each Service counts as one with one frontend and ten endpoints.
    """
    services, slices = (access.services, access.slices) if access else (None, None)
    count = max(services or 0, slices or 0)
    kernel = count * (_KERNEL_BYTES_PER_SERVICE + _COUNTER_BYTES * (processors or 1))
    need = _SMALL + count * _BYTES_PER_SERVICE + kernel
    what = "59 MB and more"
    if services is not None:
        what = f"{_mb(need)} for {count} Services, {_mb(kernel)} of it in the kernel"
    if limit is None:
        return ok(f"no memory limit here; nfproxy takes about {what}")
    text = f"the memory limit is {limit // _MI} Mi, nfproxy takes about {what}"
    remedy = f"set resources.limits.memory to {_round_up(int(need * _ROOM))}Mi or more"
    if limit < need:
        return fail(text, remedy)
    if limit < need * _ROOM:
        return warn(text, remedy)
    return ok(text)


def _mb(size: int) -> str:
    return f"{size // 1_000_000} MB"


def _round_up(size: int) -> int:
    """Return a size in Mi, a multiple of 64."""
    return -(-size // (64 * _MI)) * 64


CHECKS = (Check("memory", judge_memory, (MEMORY, IfKnown(ACCESS), IfKnown(PROCESSORS))),)
