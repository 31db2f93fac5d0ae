"""
nfacct: the named counters of the kernel, by netlink.
"""

from __future__ import annotations

import errno

from nfproxy.errors import DataplaneError
from nfproxy.netlink.messages import GENERIC_SIZE, generic, string, text, values
from nfproxy.netlink.sockets import ABSENT, NetlinkSocket, code_of
from nfproxy.tools.takeover.names import NFACCT

_GET, _DELETE = 0x701, 0x703  # NFNL_SUBSYS_ACCT << 8 | NFNL_MSG_ACCT_…
_NAME = 1  # NFACCT_NAME

#: What a kernel without nfacct answers.
_NO_NFACCT = {code_of(number) for number in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOENT)}


def kube_proxy_counters() -> list[str]:
    """Return the counters that kube-proxy made; none if the kernel has no nfacct."""
    with NetlinkSocket() as netlink:
        try:
            listed = netlink.dump(_GET, generic(0), "nfacct counters")
        except DataplaneError as error:
            if error.code not in _NO_NFACCT:
                raise
            return []
    found = (text(values(data, GENERIC_SIZE).get(_NAME, b"")) for data in listed)
    return [name for name in found if name in NFACCT]


def delete_counter(name: str) -> None:
    """Delete a counter that no rule uses; fine if it is gone. Raises DataplaneError."""
    with NetlinkSocket() as netlink:
        try:
            netlink.request(
                _DELETE, generic(0) + string(_NAME, name), f"delete the nfacct counter {name}"
            )
        except DataplaneError as error:
            if error.code != ABSENT:
                raise
