"""The named objects that kube-proxy's rules use: ipsets (by pyroute2) and counters of nfacct."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import Any, NamedTuple

from pyroute2 import IPSet
from pyroute2.netlink.exceptions import NetlinkError

from nfproxy.errors import DataplaneError, reason_of
from nfproxy.model.addresses import Family
from nfproxy.model.service import Protocol
from nfproxy.netlink.messages import GENERIC_SIZE, generic, string, text, values
from nfproxy.netlink.sockets import ABSENT, NetlinkSocket, code_of
from nfproxy.tools.takeover.names import IPSETS, NFACCT, NODE_PORT_SETS

_BUSY = 4103  # IPSET_ERR_BUSY
_GET_COUNTERS, _DELETE_COUNTER = 0x701, 0x703  # NFNL_SUBSYS_ACCT << 8 | NFNL_MSG_ACCT_…
_COUNTER_NAME = 1  # NFACCT_NAME

#: The errors of a kernel without nfacct.
_NO_NFACCT = {code_of(number) for number in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOENT)}


class KubeProxySets(NamedTuple):
    """The names of kube-proxy's ipsets, and the node ports in them."""

    names: tuple[str, ...]
    node_ports: frozenset[tuple[Family, Protocol, int]]


def kube_proxy_sets() -> KubeProxySets:
    """
    Return kube-proxy's ipsets, none where the kernel has no ipset.

    Raises DataplaneError where they cannot be listed.
    """
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
                    ports |= {(family, protocol, port) for port in _ports(message)}
    except (NetlinkError, OSError) as error:
        if not found:  # a kernel without ipset answers in several ways
            return KubeProxySets((), frozenset())
        raise DataplaneError(f"cannot list ipsets: {reason_of(error)}") from error
    return KubeProxySets(tuple(sorted(found)), frozenset(ports))


def _ports(message: Any) -> Iterable[int]:
    entries = message.get_attr("IPSET_ATTR_ADT")
    for entry in entries.get_attrs("IPSET_ATTR_DATA") if entries else ():
        port = entry.get_attr("IPSET_ATTR_PORT_FROM") or entry.get_attr("IPSET_ATTR_PORT")
        if port:
            yield int(port)


def destroy_set(name: str) -> None:
    """Destroy a set that no rule uses; skip one that is gone. Raises DataplaneError."""
    try:
        with IPSet() as sets:
            sets.destroy(name)
    except NetlinkError as error:
        if error.code == errno.ENOENT:
            return
        reason = "a rule of iptables uses it" if error.code == _BUSY else str(error)
        raise DataplaneError(f"ipset {name}: {reason}") from error


def kube_proxy_counters() -> list[str]:
    """Return kube-proxy's counters; none where the kernel has no nfacct."""
    with NetlinkSocket() as netlink:
        try:
            listed = netlink.dump(_GET_COUNTERS, generic(0), "nfacct counters")
        except DataplaneError as error:
            if error.code not in _NO_NFACCT:
                raise
            return []
    found = (text(values(data, GENERIC_SIZE).get(_COUNTER_NAME, b"")) for data in listed)
    return [name for name in found if name in NFACCT]


def delete_counter(name: str) -> None:
    """Delete a counter that no rule uses; skip one that is gone. Raises DataplaneError."""
    with NetlinkSocket() as netlink:
        try:
            netlink.request(
                _DELETE_COUNTER,
                generic(0) + string(_COUNTER_NAME, name),
                f"delete the nfacct counter {name}",
            )
        except DataplaneError as error:
            if error.code != ABSENT:
                raise
