"""
IPVS taken away as its connections end.

New connections no longer come to IPVS, as they are translated before. Those that it has go on only
as long as their virtual server is there and its address is one of this host's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence

from nfproxy.errors import NfproxyError
from nfproxy.model.addresses import format_address
from nfproxy.tools.takeover.ipvs import Ipvs
from nfproxy.tools.takeover.leftovers import Leftovers
from nfproxy.tools.takeover.virtualservers import Idle, Look, VirtualServer, idle

_LOOK_S = 2.0  # between two looks; of UDP flows, what sends more rarely counts as idle
_NAMED = 5  # of what is left, in a message


def drain(
    ipvs: Ipvs,
    found: Leftovers,
    drain_s: float,
    *,
    force: bool,
    say: Callable[[str], object],
) -> list[str]:
    """
    Remove virtual servers, addresses and the device when nobody uses them; return what failed.

    After `drain_s` what is still in use stays, or goes with `force`.
    """
    left, bound = list(found.servers), set(found.bound or ())
    try:
        ipvs.prefer_own_source(bound)
        deadline = time.monotonic() + drain_s
        before: Look | None = None
        while True:
            now = _look(ipvs)
            over = now.at_s >= deadline
            going = Idle(left, bound) if over and force else idle(left, bound, now, before)
            ipvs.delete_servers(going.servers)
            ipvs.unbind(going.addresses)
            left = [server for server in left if server not in set(going.servers)]
            bound = bound - going.addresses
            if not left and not bound:
                ipvs.delete_device()
                return []
            if over:
                return [_in_use(left, bound, drain_s)]
            say(_progress(left, bound, deadline - now.at_s))
            before = now
            time.sleep(max(0.0, min(_LOOK_S, deadline - time.monotonic())))
    except NfproxyError as error:
        return [str(error)]


def _look(ipvs: Ipvs) -> Look:
    return Look(time.monotonic(), tuple(ipvs.connections()), frozenset(ipvs.sources()))


def _in_use(left: Sequence[VirtualServer], bound: Collection[bytes], drain_s: float) -> str:
    if left:
        kind, named = "virtual servers", [str(server) for server in left]
    else:
        kind, named = "addresses", [format_address(address) for address in sorted(bound)]
    rest = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    return (
        f"open connections still need {kind} of IPVS after {drain_s:g} s: "
        f"{', '.join(named[:_NAMED])}{rest}. Run this again when they have ended, wait longer "
        "(--drain), or break them (--force)"
    )


def _progress(left: Sequence[VirtualServer], bound: Collection[bytes], rest_s: float) -> str:
    return (
        f"waiting for connections through IPVS to end: {len(left)} virtual servers and "
        f"{len(bound)} addresses are in use; at most {rest_s:.0f} s more"
    )
