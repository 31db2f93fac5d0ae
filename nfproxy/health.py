"""
Whether this node's proxy is well: what ``/healthz``, ``/livez`` and ``/readyz`` answer.

Everything here computes; the time is an argument. The rules are kube-proxy's (KEP-3836), with
three differences: a Node that is deleted counts as ineligible at once, whether or not its
``deletionTimestamp`` was seen before (in kube-proxy the last object seen still counts); a sync
that fails is a request like any other, so a first sync that never succeeds shows; and there is
``/readyz``.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.model.node import Node

#: What Go prints for a time that was never set.
ZERO_TIME = "0001-01-01T00:00:00Z"

#: A request may wait for so many sync periods.
_PATIENCE = 2

_SECOND_NS = 1_000_000_000


class Instant(NamedTuple):
    """
    One moment by two clocks.

    `monotonic_s` measures how long something takes, `unix_ns` (since 1970) is for people.
    """

    monotonic_s: float
    unix_ns: int


class Answer(NamedTuple):
    """What a health page says: an HTTP status code, and JSON without a newline at its end."""

    code: int
    body: bytes


class _Sync(NamedTuple):
    """
    Where a family stands.

    `updated_ns` is the last success, or when its loop started; None before that. `pending_s` is
    when the oldest request that no success has followed was made.
    """

    updated_ns: int | None = None
    pending_s: float | None = None
    programmed: bool = False


class _FamilyStatus(msgspec.Struct, frozen=True, rename="camel"):
    last_updated: str
    healthy: bool


class _Status(msgspec.Struct, frozen=True, rename="camel"):
    """The body of an answer, its keys in kube-proxy's order; what is unset is left out."""

    last_updated: str
    current_time: str
    node_eligible: bool | UnsetType
    healthy: bool
    programmed: bool | UnsetType
    status: Mapping[str, _FamilyStatus] | UnsetType


class Health:
    """
    The state behind the health pages.

    May be told of things, and asked, in any thread.
    """

    def __init__(self, sync_period_s: float) -> None:
        """Start with no family and no Node; see the module for what `sync_period_s` decides."""
        self._patience_s = _PATIENCE * sync_period_s
        self._syncs: dict[Family, _Sync] = dict.fromkeys(FAMILIES, _Sync())
        self._node: Node | None = None
        self._lock = threading.Lock()

    def started(self, family: Family, now: Instant) -> None:
        """Note that a family is being looked after. Before that it does not count."""
        with self._lock:
            self._syncs[family] = self._syncs[family]._replace(updated_ns=now.unix_ns)

    def queued(self, family: Family, now: Instant) -> None:
        """
        Note that a sync is asked for: something changed, or a sync has failed.

        Of several requests the oldest counts, until one succeeds.
        """
        with self._lock:
            sync = self._syncs[family]
            if sync.pending_s is None:
                self._syncs[family] = sync._replace(pending_s=now.monotonic_s)

    def succeeded(self, family: Family, now: Instant) -> None:
        """Note that everything that was asked for is in force."""
        with self._lock:
            self._syncs[family] = _Sync(now.unix_ns, None, programmed=True)

    def node_seen(self, node: Node) -> None:
        """Take over what the API says of our own Node."""
        self._node = node

    def node_gone(self) -> None:
        """Note that our own Node is not there (any more)."""
        self._node = None

    @property
    def eligible(self) -> bool:
        """Tell whether load balancers should send new connections to this node."""
        node = self._node  # once: another thread may replace it
        return node is not None and not node.leaving

    @property
    def programmed(self) -> bool:
        """Tell whether every family that is looked after has been programmed once."""
        started = [sync for sync in self._syncs.values() if sync.updated_ns is not None]
        return bool(started) and all(sync.programmed for sync in started)

    def healthy(self, now: Instant) -> bool:
        """Tell whether no family has a request older than twice the sync period."""
        return all(self._is_well(sync, now) for sync in self._syncs.values())

    def healthz(self, now: Instant) -> Answer:
        """Return whether load balancers should use this node: sync healthy, Node eligible."""
        eligible = self.eligible
        return self._answer(now, good=eligible, node_eligible=eligible)

    def livez(self, now: Instant) -> Answer:
        """Return whether this process does its work, whatever becomes of the Node."""
        return self._answer(now, good=True)

    def readyz(self, now: Instant) -> Answer:
        """Return whether everything has been programmed once, and is being kept in step."""
        programmed = self.programmed
        return self._answer(now, good=programmed, programmed=programmed)

    def _is_well(self, sync: _Sync, now: Instant) -> bool:
        return (
            sync.updated_ns is None
            or sync.pending_s is None
            or now.monotonic_s - sync.pending_s < self._patience_s
        )

    def _answer(
        self,
        now: Instant,
        *,
        good: bool,
        node_eligible: bool | UnsetType = UNSET,
        programmed: bool | UnsetType = UNSET,
    ) -> Answer:
        # a copy first: the families must not change between `healthy` and `status`
        started = [(f, s) for f, s in list(self._syncs.items()) if s.updated_ns is not None]
        status = {
            family.label: _FamilyStatus(rfc3339(sync.updated_ns or 0), self._is_well(sync, now))
            for family, sync in started
        }
        healthy = all(each.healthy for each in status.values())
        good = good and healthy
        if good:
            # "recent" for as long as all is well: of old it told when the loop had last run
            updated_ns: int | None = now.unix_ns
        else:
            updated_ns = max((sync.updated_ns or 0 for _, sync in started), default=None)
        body = _Status(
            last_updated=ZERO_TIME if updated_ns is None else rfc3339(updated_ns),
            current_time=rfc3339(now.unix_ns),
            node_eligible=node_eligible,
            healthy=healthy,
            programmed=programmed,
            status=status or UNSET,
        )
        return Answer(200 if good else 503, msgspec.json.encode(body))


def rfc3339(unix_ns: int) -> str:
    """Return a time as Go writes it: UTC, nine fraction digits at most, no trailing zeros."""
    seconds, rest = divmod(unix_ns, _SECOND_NS)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    return f"{text}{fraction}Z"
