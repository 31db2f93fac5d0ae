"""The lab's traffic, over all protocols."""

from __future__ import annotations

from support.packets.attempts import ATTEMPTS
from support.responders import settle_all

from nfproxy.model.service import Protocol
from nfproxy.tools.lab import traffic as lab
from nfproxy.tools.lab.hosts import Host
from nfproxy.tools.lab.traffic import HELD_PORTS

__all__ = ["HELD_PORTS", "Traffic"]


class Traffic(lab.Traffic):
    """Open connections over a protocol; with `held`, TCP connections stay open as well."""

    def __init__(
        self,
        source: Host,
        destination: str,
        port: int,
        protocol: Protocol = Protocol.TCP,
        *,
        rate: int = 500,
        held: int = 0,
        source_address: str = "",
    ) -> None:
        super().__init__(
            source, destination, port, rate=rate, held=held, source_address=source_address
        )
        self.attempt = ATTEMPTS[protocol]
        self._name = f"{protocol.word} to {destination}"

    @property
    def lost(self) -> list[str]:
        """What was not served, in words; complete after leaving."""
        return [f"{self._name}: {one.reason} after {one.at_s:.3f} s" for one in self.failures]

    def settle(self) -> None:
        """Wait until the responders have answered everything that had arrived."""
        settle_all()
