"""
ipset: the sets of ipvs mode, by netlink (pyroute2).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from nfproxy.errors import DataplaneError
from nfproxy.model.addresses import Family
from nfproxy.model.service import Protocol
from nfproxy.tools.takeover.names import IPSETS, NODE_PORT_SETS

_PROTOCOLS = {protocol.word: protocol for protocol in Protocol}


class Sets(NamedTuple):
    """The names of kube-proxy's sets, and the node ports that they hold."""

    names: tuple[str, ...]
    node_ports: frozenset[tuple[Family, Protocol, int]]


def kube_proxy_sets() -> Sets:
    """
    Return kube-proxy's sets.

    Nothing where the kernel has no ipset. Raises DataplaneError where they cannot be listed.
    """
    # Imported when it is needed: no other part of the program that runs on nodes needs it.
    from pyroute2 import IPSet
    from pyroute2.netlink.exceptions import NetlinkError

    found: list[str] = []
    ports: set[tuple[Family, Protocol, int]] = set()
    try:
        with IPSet() as sets:
            for message in sets.list():
                name = message.get_attr("IPSET_ATTR_SETNAME")
                if name not in IPSETS:
                    continue
                found.append(name)
                if name in NODE_PORT_SETS:
                    family, protocol = NODE_PORT_SETS[name]
                    ports |= {(family, _PROTOCOLS[protocol], port) for port in _ports(message)}
    except (NetlinkError, OSError) as error:
        if not found:  # a kernel without ipset answers in several ways
            return Sets((), frozenset())
        raise DataplaneError(f"cannot list ipsets: {error}") from error
    return Sets(tuple(sorted(found)), frozenset(ports))


def _ports(message: Any) -> Iterable[int]:
    entries = message.get_attr("IPSET_ATTR_ADT")
    for entry in entries.get_attrs("IPSET_ATTR_DATA") if entries else ():
        port = entry.get_attr("IPSET_ATTR_PORT_FROM") or entry.get_attr("IPSET_ATTR_PORT")
        if port:
            yield int(port)


def destroy_set(name: str) -> None:
    """Destroy a set that no rule uses; fine if it is gone. Raises DataplaneError."""
    from pyroute2 import IPSet
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        with IPSet() as sets:
            sets.destroy(name)
    except NetlinkError as error:
        if error.code in _GONE:
            return
        reason = "a rule of iptables uses it" if error.code == _IN_USE else str(error)
        raise DataplaneError(f"ipset {name}: {reason}") from error


_GONE = (2,)  # ENOENT
_IN_USE = 4103  # IPSET_ERR_BUSY
