"""
What the reconciler asks of a dataplane: the kernel, or a fake in its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol as Interface

from nfproxy.model.addresses import Family
from nfproxy.netlink.nftables import ChainRow
from nfproxy.nft.schema import Value
from nfproxy.reconcile.transition import Operation


class Dataplane(Interface):
    """What the reconciler asks of the kernel, or of a fake in its place."""

    def load(self, text: str) -> None:
        """Run an nft script as one transaction."""

    def commit(self, operations: Sequence[Operation]) -> None:
        """Commit element operations as one transaction, whole or not at all."""

    def has_table(self, family: Family) -> bool:
        """Tell whether the family's table exists."""

    def chains(self, family: Family) -> Sequence[ChainRow]:
        """Return the chains of the family's table."""

    def elements(self, family: Family, name: str) -> Iterable[tuple[bytes, Value]]:
        """Yield a set's elements."""

    def affinity_entries(
        self, family: Family, parts: Iterable[bytes]
    ) -> Iterable[tuple[bytes, bytes]]:
        """Yield (key, address) of affinity entries, among them all whose key holds a part."""
