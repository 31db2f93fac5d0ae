"""What sees packets of an interface outside nf_tables: XDP programs, filters and queues of tc."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator

from nfproxy.errors import DataplaneError
from nfproxy.insight.nodefacts import InterfaceProgram, NodeLink
from nfproxy.netlink import trafficcontrol
from nfproxy.netlink.rtnetlink import NETLINK_ROUTE
from nfproxy.netlink.sockets import NetlinkSocket

#: Queues that lose packets on purpose.
_LOSING = {"netem", "blackhole"}


def read_interface_programs(links: Collection[NodeLink]) -> tuple[InterfaceProgram, ...]:
    """Return what may drop packets at some interfaces; of tc nothing where that cannot be read."""
    found = [InterfaceProgram(link.name, "an XDP program") for link in links if link.has_xdp]
    # The kernel has no tc, or an interface goes just now.
    with NetlinkSocket(NETLINK_ROUTE) as netlink, contextlib.suppress(DataplaneError):
        found += _queues(netlink, {link.index: link.name for link in links})
    return tuple(sorted(set(found), key=lambda one: (not one.takes_packets, one.interface)))


def _queues(netlink: NetlinkSocket, names: dict[int, str]) -> Iterator[InterfaceProgram]:
    listed = netlink.dump(trafficcontrol.GET_QUEUE, trafficcontrol.question(), "queues")
    for queue in map(trafficcontrol.read_queue, listed):
        name = names.get(queue.interface)
        if name is None:
            continue
        if queue.kind in _LOSING:
            yield InterfaceProgram(name, f"queue {queue.kind}", takes_packets=True)
        for direction, parent in queue.filter_places.items():
            rows = netlink.dump(
                trafficcontrol.GET_FILTER,
                trafficcontrol.question(queue.interface, parent),
                "filters",
            )
            for row in map(trafficcontrol.read_filter, rows):
                yield InterfaceProgram(
                    name, f"a tc filter ({row.kind}) at {direction}", row.takes_packets
                )
