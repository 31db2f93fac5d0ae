"""The connections of a service port, as far as the kernel knows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from nfproxy.insight.explanation import EndpointRow
from nfproxy.insight.nodefacts import ConnectionCounts
from nfproxy.plan.endpoints import Destination


class PortTraffic(NamedTuple):
    """
    What came to the frontends of a port, ever and just now, and what is known of it.

    `endpoints` are its connections by endpoint.
    """

    ever: int
    just_now: int
    endpoints: Mapping[Destination, ConnectionCounts]

    @property
    def is_known(self) -> bool:
        """Whether the kernel has a connection."""
        return any(counts.known for counts in self.endpoints.values())

    @property
    def is_overdue(self) -> bool:
        """Whether connections wait for an answer."""
        return any(counts.overdue for counts in self.endpoints.values())

    def of(self, row: EndpointRow) -> ConnectionCounts:
        """Return the connections to an endpoint."""
        return self.endpoints.get(row.destination) or ConnectionCounts()

    def is_open(self, row: EndpointRow) -> bool:
        """Return whether an endpoint has answered a connection."""
        counts = self.of(row)
        return bool(counts.open or counts.closing)
