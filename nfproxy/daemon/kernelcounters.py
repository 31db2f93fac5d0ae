"""What the kernel counts in nfproxy's tables, read whenever the page of metrics is."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from nfproxy.dataplane.kernel import Kernel
from nfproxy.errors import DataplaneError
from nfproxy.metrics.kernelcounts import AffinityUse
from nfproxy.model.addresses import Family
from nfproxy.model.service import Protocol
from nfproxy.nft import schema
from nfproxy.nft.chains import is_clients_map

log = logging.getLogger(__name__)


class KernelCounters:
    """
    Reads named counters, and how many clients session affinity remembers.

    Each method may be called in any thread, and returns nothing while the tables cannot be read.
    None reads who the clients are: that could be very many.
    """

    def __init__(self, families: Sequence[Family]) -> None:
        """Read nothing yet."""
        self._families = tuple(families)

    def rejected(self) -> Iterator[tuple[Family, Protocol, int]]:
        """Yield the packets that were rejected on loopback addresses, by protocol."""
        for family, counters in self._named().items():
            for protocol, name in schema.REJECTED_COUNTERS.items():
                if name in counters:
                    yield family, protocol, counters[name]

    def refused(self) -> dict[Family, dict[str, int]]:
        """Return the connections that got no endpoint, by reason."""
        return {
            family: {
                reason: counters[name]
                for reason, name in schema.REFUSED_COUNTERS.items()
                if name in counters
            }
            for family, counters in self._named().items()
        }

    def affinity(self) -> dict[Family, AffinityUse]:
        """Return what each family's table remembers of clients."""
        found: dict[Family, AffinityUse] = {}
        try:
            kernel = Kernel()
            try:
                for family in self._families:
                    counters = kernel.named_counters(family)
                    if schema.AFFINITY_FULL in counters:
                        found[family] = _use(kernel, family, counters[schema.AFFINITY_FULL])
            finally:
                kernel.close()
        except DataplaneError as error:
            log.debug("clients that session affinity remembers: %s", error)
            return {}
        return found

    def _named(self) -> dict[Family, dict[str, int]]:
        try:
            kernel = Kernel()
            try:
                return {family: kernel.named_counters(family) for family in self._families}
            finally:
                kernel.close()
        except DataplaneError as error:
            log.debug("counters of the kernel: %s", error)
            return {}


def _use(kernel: Kernel, family: Family, refused: int) -> AffinityUse:
    counts = [row.held for row in kernel.sets(family) if is_clients_map(row.name)]
    known = [count for count in counts if count is not None]
    if len(known) < len(counts):
        return AffinityUse(None, None, refused)
    return AffinityUse(sum(known), max(known, default=0) / schema.MOST_CLIENTS, refused)
