"""What a sync reports."""

from __future__ import annotations

import enum
from collections.abc import Set

import msgspec

from nfproxy.plan.desired import Touched
from nfproxy.plan.frontends import FrontendKey


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
    counts. `resynced` is true where this sync ended what a reading began: everything was compared.
    """

    operations: int = 0
    chains_made: int = 0
    reason: ResyncReason | None = None
    elements_read: int = 0
    resynced: bool = False
    frontends: Set[FrontendKey] = frozenset()
    finished: Touched = Touched()
    left: int = 0
