"""
Which node ports the proxy in user space serves on loopback addresses, and with which endpoints.

Source: KEP-6032. The kernel cannot serve them: a packet with a loopback address as its source must
not leave the host. internalTrafficPolicy and source ranges do not apply.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from nfproxy.model.addresses import Family, format_address
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.model.service import ObjectName, Protocol
from nfproxy.nft.chains import RecordChain
from nfproxy.nft.schema import port_of
from nfproxy.plan.frontends import Frontend, FrontendKey


class LocalPort(NamedTuple):
    """Where to listen: a node port on the loopback address of a family."""

    family: Family
    port: int
    protocol: Protocol = Protocol.TCP

    @property
    def text(self) -> str:
        """The port for people, with its protocol unless that is TCP."""
        return f"{self.port}" if self.protocol is Protocol.TCP else f"{self.port}/udp"


class Target(NamedTuple):
    """The address and port of an endpoint."""

    address: str
    port: int


class LocalNodePort(NamedTuple):
    """
    What a listener does: connect to one of `targets`, of which there is at least one.

    `affinity_s` is how long a client stays with its endpoint (``sessionAffinity: ClientIP``), None
    without affinity.
    """

    service: ObjectName
    targets: tuple[Target, ...]
    affinity_s: int | None = None


#: Listeners that changed; None for those that are not wanted any more.
ListenerChanges = Mapping[LocalPort, LocalNodePort | None]


def listener_changes(
    touched: Iterable[FrontendKey],
    frontends: Mapping[FrontendKey, Frontend],
    config: NodeConfig,
) -> ListenerChanges:
    """Return what is wanted for each touched frontend that could have a listener."""
    changes: dict[LocalPort, LocalNodePort | None] = {}
    for key in touched:
        if not key.address and config.proxies_on_loopback(key.family, key.protocol):
            changes[LocalPort(key.family, key.port, key.protocol)] = _listener(frontends.get(key))
    return changes


def _listener(frontend: Frontend | None) -> LocalNodePort | None:
    """Return what a node port's listener does; None without a usable endpoint."""
    if frontend is None:
        return None
    # With externalTrafficPolicy Local these are the local endpoints, and there is no fallback.
    destinations, _ = frontend.slot_ranges
    if not destinations:
        return None
    size = frontend.key.family.size
    targets = tuple(Target(format_address(d[:size]), port_of(d, size)) for d in destinations)
    timeouts = (chain.timeout_s for chain in frontend.chains if isinstance(chain, RecordChain))
    return LocalNodePort(frontend.claim.service, targets, next(timeouts, None))
