"""
Node ports on loopback addresses, between the commits, the listeners and the metrics (KEP-6032).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence

from nfproxy.dataplane.kernel import Kernel
from nfproxy.errors import DataplaneError
from nfproxy.metrics import Metrics
from nfproxy.model.addresses import Family
from nfproxy.model.service import Protocol
from nfproxy.nft.schema import REJECTED_COUNTERS
from nfproxy.plan.localnodeports import ListenerChanges
from nfproxy.servers.tcpproxy import LocalNodePortServers

log = logging.getLogger(__name__)

# How often a node port is tried again that another process listens on; each sync tries, too.
_RETRY_S = 30.0


class LocalNodePorts:
    """Keeps the listeners that the last commit wants. Belongs to the event loop."""

    def __init__(self, families: Sequence[Family], metrics: Metrics) -> None:
        """Listen nowhere yet."""
        self._families = tuple(families)
        self._metrics = metrics
        self._servers = LocalNodePortServers(metrics.localhost_listen_failed)
        self._report()

    def committed(self, changes: ListenerChanges) -> None:
        """Take over what a commit changed; without a change, try again what failed."""
        self._servers.update(changes)
        self._report()

    async def run(self) -> None:
        """Try again now and then; close everything at the end."""
        try:
            while True:
                await asyncio.sleep(_RETRY_S)
                self.committed({})
        finally:
            await self._servers.close()

    def _report(self) -> None:
        counts = self._servers.listeners
        self._metrics.localhost_listeners({family: counts[family] for family in self._families})


class RejectedPackets:
    """Reads the counters of packets that were rejected on loopback addresses."""

    def __init__(self, families: Sequence[Family]) -> None:
        """Read nothing yet."""
        self._families = tuple(families)

    def __call__(self) -> Iterator[tuple[Family, Protocol, int]]:
        """
        Yield the packets by family and protocol; nothing while they cannot be read.

        May be called in any thread.
        """
        try:
            kernel = Kernel()
            try:
                counted = {family: kernel.named_counters(family) for family in self._families}
            finally:
                kernel.close()
        except DataplaneError as error:
            log.debug("rejected packets on loopback addresses: %s", error)
            return
        for family, counters in counted.items():
            for protocol, name in REJECTED_COUNTERS.items():
                if name in counters:
                    yield family, protocol, counters[name]
