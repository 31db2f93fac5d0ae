"""
The network interfaces, by rtnetlink.
"""

from __future__ import annotations

import socket
from collections import Counter

from nfproxy.tools.preflight.facts import Link


def read_links() -> tuple[Link, ...]:
    """Return the interfaces of this network namespace, with their addresses."""
    from pyroute2 import IPRoute  # 9 MB that only this command needs

    with IPRoute() as netlink:
        rows = list(netlink.get_links())
        addresses: dict[int, list[str]] = {}
        for family in (socket.AF_INET, socket.AF_INET6):
            for row in netlink.get_addr(family=family):
                text = row.get_attr("IFA_LOCAL") or row.get_attr("IFA_ADDRESS") or ""
                addresses.setdefault(row["index"], []).append(str(text))
    ports = Counter(row.get_attr("IFLA_MASTER") for row in rows)
    return tuple(
        Link(
            name=str(row.get_attr("IFLA_IFNAME") or ""),
            kind=_kind(row),
            addresses=tuple(addresses.get(row["index"], ())),
            ports=ports[row["index"]],
        )
        for row in rows
    )


def _kind(row: object) -> str:
    info = row.get_attr("IFLA_LINKINFO")  # type: ignore[attr-defined]
    return str(info.get_attr("IFLA_INFO_KIND") or "") if info is not None else ""
