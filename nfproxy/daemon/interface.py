"""
What the loop asks of those around it, and what it tells them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from nfproxy.model.addresses import Family
from nfproxy.model.changes import Changes
from nfproxy.model.node import Node
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.plan.desired import Touched
from nfproxy.plan.planner import Planner
from nfproxy.reconcile.reconciler import Report

#: From the Node object, and whether its addresses may still come, to the configuration.
Configure = Callable[[Node | None, bool], NodeConfig]


class Pace(msgspec.Struct, frozen=True):
    """
    How often the kernel is written to, in seconds.

    `pause_s` passes between the end of one synchronisation and the next (``minSyncPeriod``); a
    change after a quiet time is acted upon at once. A synchronisation that failed is tried again
    with back-off, at the latest after `retry_s` (``syncPeriod``). After `audit_s` the tables
    are read and compared as a whole. At start `node_wait_s` is allowed for a Node that the
    configuration can be used with, and for `addresses_wait_s` a Node without addresses is believed
    to get them.
    """

    pause_s: float = 0.0
    retry_s: float = 30.0
    audit_s: float = 3600.0
    node_wait_s: float = 0.0
    addresses_wait_s: float = 0.0


class Commit(msgspec.Struct, frozen=True):
    """
    A synchronisation that succeeded.

    `touched` is all that had changed since the one before, `triggers` when the control plane
    began those changes (Unix seconds, by family), `seconds` how long committing took, `contested`
    how many claims to a frontend lost.
    """

    report: Report
    touched: Touched
    triggers: Mapping[Family, tuple[float, ...]]
    seconds: float
    contested: int = 0


class Duties(Protocol):
    """
    What goes along with programming.

    Called by the thread that plans and commits, never by two at once; while a call lasts,
    nothing is planned, so what it reads of the planner stands still. Must not block, nor raise.
    """

    def received(self, changes: Changes) -> None:
        """Objects changed; what follows from it is about to be planned."""

    def committed(self, planner: Planner, commit: Commit) -> None:
        """Everything received until now is in force."""

    def failed(self, error: Exception, seconds: float) -> None:
        """The kernel refused; what was in force stays."""

    def cleanup_failed(self) -> None:
        """Chains that nobody uses could not be removed, and stay for now."""

    def disturbed(self, culprit: str) -> None:
        """Somebody else changed our tables; they are about to be repaired. In the event loop."""


class NoDuties:
    """Does nothing besides."""

    def received(self, changes: Changes) -> None:
        """Do nothing."""

    def committed(self, planner: Planner, commit: Commit) -> None:
        """Do nothing."""

    def failed(self, error: Exception, seconds: float) -> None:
        """Do nothing."""

    def cleanup_failed(self) -> None:
        """Do nothing."""

    def disturbed(self, culprit: str) -> None:
        """Do nothing."""


class Alarm(Protocol):
    """Tells of changes to our tables that are not ours: the kernel's notifications."""

    def fileno(self) -> int:
        """Return the file descriptor that becomes readable when there is something to `read`."""

    def read(self) -> str:
        """Return who changed our tables since the last call, "" for nobody."""
