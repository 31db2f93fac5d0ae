"""
What the daemon needs for itself: memory, and addresses to listen at.
"""

from __future__ import annotations

from collections.abc import Iterable

from nfproxy.tools.preflight.facts import Memory, Port
from nfproxy.tools.preflight.findings import Verdict, fail, ok, warn

#: Measured with 50 x 4 and 10,000 x 10 Services and endpoints: resident bytes of the daemon.
_SMALL, _BYTES_PER_SERVICE = 55_000_000, 7_640
_ROOM = 1.5  # for a list that is being read, and for the child that loads the program
_MI = 1 << 20


def memory(found: Memory, services: int | None, slices: int | None) -> Verdict:
    """Compare the limit with what was measured; a Service is taken to have ten endpoints."""
    count = max(services or 0, slices or 0)
    need = _SMALL + count * _BYTES_PER_SERVICE
    known = services is not None
    what = f"{need // 1_000_000} MB for {count} Services" if known else "55 MB and more"
    if found.limit is None:
        return ok(f"no memory limit here; nfproxy takes about {what}")
    text = f"the memory limit is {found.limit // _MI} Mi, nfproxy takes about {what}"
    remedy = f"set resources.limits.memory to {_round_up(int(need * _ROOM))}Mi or more"
    if found.limit < need:
        return fail(text, remedy)
    if found.limit < need * _ROOM:
        return warn(text, remedy)
    return ok(text)


def _round_up(size: int) -> int:
    """Return a size in Mi, a multiple of 64."""
    return -(-size // (64 * _MI)) * 64


def ports(found: Iterable[Port], *, hard_fail: bool) -> list[Verdict]:
    """The addresses of health and metrics are free, or will be when kube-proxy has gone."""
    return [_port(port, hard_fail) for port in found]


def _port(port: Port, hard_fail: bool) -> Verdict:
    if not port.trouble:
        return ok(f"{port.what}: {port.address} is free")
    if port.holder.startswith("nfproxy"):
        return ok(f"{port.what}: {port.address} is held by nfproxy")
    if port.holder:
        return ok(
            f"{port.what}: {port.address} is held by {port.holder}; nfproxy takes it when that "
            "has ended"
        )
    judge = fail if hard_fail else warn
    return judge(
        f"{port.what}: {port.trouble}",
        "end what listens there, or set another address (healthzBindAddress, metricsBindAddress)",
    )
