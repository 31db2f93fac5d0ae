"""What the reconciler asks of a kernel, and what it reports of a sync."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence, Set
from typing import Protocol

import msgspec

from nfproxy.model.addresses import Family
from nfproxy.netlink.nftables import ChainRow, TableRow
from nfproxy.nft.schema import Value
from nfproxy.plan.desired import Touched
from nfproxy.plan.frontendnames import FrontendNames
from nfproxy.plan.frontends import FrontendKey
from nfproxy.reconcile.backlog import ServicePart
from nfproxy.reconcile.refusals import Refused
from nfproxy.reconcile.transition import Operation


class Dataplane(Protocol):
    """
    What the reconciler needs of the kernel, or of a fake in its place.

    `table` is the name of the tables that elements, sets and chains are read and written in.
    """

    table: str

    @property
    def transaction_limit(self) -> int | None:
        """The most bytes that one transaction may have, None for no limit."""

    def use_names(self, names: FrontendNames) -> None:
        """Write frontends with these names."""

    def expect_load(self) -> None:
        """Prepare for a `load` that comes soon."""

    @property
    def rest_at(self) -> float | None:
        """The clock's time at which `rest` has something to do, None if never."""

    def rest(self) -> None:
        """End what `load` has not used for long."""

    def load(self, text: str) -> None:
        """Run an nft script as one transaction."""

    def commit(self, operations: Sequence[Operation]) -> None:
        """Commit element operations as one transaction, whole or not at all."""

    def commit_all(self, transactions: Iterable[Sequence[Operation]]) -> None:
        """Commit several transactions, which are made meanwhile; what makes them may `load`."""

    def table_row(self, family: Family, table: str) -> TableRow | None:
        """Return a table of a family, None if there is none."""

    def chains(self, family: Family, table: str = "") -> Sequence[ChainRow]:
        """Return the chains of the family's table, or of another one."""

    def elements(self, family: Family, name: str) -> Iterable[tuple[bytes, Value]]:
        """Yield the elements of a set or map."""

    def find(
        self, family: Family, name: str, keys: Iterable[bytes]
    ) -> Iterable[tuple[bytes, Value]]:
        """Yield those elements of a set or map, not of an interval set, that have some keys."""

    def set_names(self, family: Family) -> Iterable[str]:
        """Return the names of the sets and maps of the family's table."""


class ResyncReason(enum.StrEnum):
    """Why the reconciler read the kernel's tables as a whole."""

    START = "start"
    FAILURE = "failure"
    AUDIT = "audit"
    FOREIGN = "foreign"


class Report(msgspec.Struct, frozen=True):
    """
    What one sync did: a portion of the work, or all of it.

    `operations` counts element changes, `chains_made` the chains whose rules were loaded.
    `frontends` are those that answer differently from before: in the kernel, or, after a reading,
    than was believed. `finished` has the Services, and the frontends of Services, that were planned
    and that the kernel now has. `left` counts the Services for which the next sync has to do more.

    `reason` says why the tables were read in this sync, None where they were not; `elements_read`
    counts. With `is_partial` only what foreign changes touched was read. `resynced` is true where
    this sync ended what a reading began: all of that was compared. `refused` are parts that the
    kernel refused in this sync. `left_out` has all that are left as they are for that cause, and
    what waits for them.
    """

    operations: int = 0
    chains_made: int = 0
    reason: ResyncReason | None = None
    elements_read: int = 0
    resynced: bool = False
    frontends: Set[FrontendKey] = frozenset()
    finished: Touched = Touched()
    left: int = 0
    refused: tuple[Refused, ...] = ()
    left_out: Set[ServicePart] = frozenset()
    is_partial: bool = False
