"""
The last changes of this node, for ``nfproxy changes`` and the log: a bounded ring.

A change of a few Services is recorded port by port, one of many as their number. Planning and
committing cost a little more for the Services that changed, and nothing for all others. Texts are
made for readers alone.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Set
from datetime import UTC, datetime
from itertools import islice
from typing import NamedTuple

import msgspec

from nfproxy.clock import monotonic_s, process_age_s, unix_s
from nfproxy.dataplane.notifications import ForeignChange
from nfproxy.insight.changerecord import (
    ChangeRecord,
    ChangeRecords,
    PortChange,
    reasons,
    service_changes,
)
from nfproxy.insight.nodestatus import ForeignSummary
from nfproxy.model.changes import Changes
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.model.service import ObjectName
from nfproxy.plan.frontends import ServicePlan
from nfproxy.plan.planner import Planner
from nfproxy.text import plural

#: A line for each change; too many for a node of a large cluster, so they are switched apart.
commits = logging.getLogger("nfproxy.commits")

#: The ring: most records, and most bytes of them all. Packed, a record of one endpoint takes some
#: 150 bytes; long names and many endpoints take up to 2,500.
_MOST_RECORDS = 1000
_MOST_BYTES = 180_000
_OVERHEAD_BYTES = 41  # of each: the object, and its place in the ring
_MOST_SERVICES = 20  # of one commit that are recorded by themselves
_MOST_OTHERS = 16  # service ports, and frontends, that a change by another process names
_MOST_WAITING = 200  # Services whose old plan is kept meanwhile
#: Where a setting's name does not say what it is.
_SETTINGS = {"kept": "addresses that Services may not take"}
_MOST_REASONS = 16  # kept for one Service while its changes wait


class _PlanBefore(msgspec.Struct):
    """A Service that is planned again: its plan before, why, and since when."""

    before: ServicePlan | None
    since_s: float
    because: dict[str, None] = msgspec.field(default_factory=dict)


class _Entry(NamedTuple):
    """
    One change as it is kept: of a Service's port, or of something else, which `what` says.

    `unix_s` is the time, `after_s` how long it took, None for an unknown time.
    """

    unix_s: float
    after_s: float | None = None
    what: str = ""
    service: ObjectName | None = None
    port: PortChange | None = None
    because: tuple[str, ...] = ()
    by: str = ""
    services: tuple[str, ...] = ()
    frontends: tuple[str, ...] = ()

    def record(self, number: int) -> ChangeRecord:
        """Return it for readers."""
        at = datetime.fromtimestamp(self.unix_s, UTC).isoformat(timespec="milliseconds")
        port = self.port
        record = (
            port.record(str(self.service))
            if port
            else ChangeRecord(what=self.what, services=self.services, frontends=self.frontends)
        )
        return msgspec.structs.replace(
            record,
            number=number,
            at=at.replace("+00:00", "Z"),
            because=self.because,
            by=self.by,
            after_ms=None if self.after_s is None else round(self.after_s * 1000, 1),
        )


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(_Entry).decode


class ChangeLog:
    """
    Records changes of Services, of this node, and of other processes to the tables.

    `planning` and `committed` run in the worker thread, `page` in any, the others in the event
    loop.
    """

    def __init__(self) -> None:
        """Start empty; what is planned before the first complete commit is one record."""
        self._lock = threading.Lock()
        self._entries: deque[bytes] = deque()  # packed
        self._bytes = 0
        self._number = 0  # of the last one
        self._has_begun = False
        self._waiting: dict[ObjectName, _PlanBefore | None] = {}
        self._of_node: tuple[_Entry, float] | None = None
        self._foreign: tuple[ForeignChange, float] | None = None

    # --- in the worker thread ------------------------------------------------------------

    def planning(self, planner: Planner, changes: Changes, before: NodeConfig) -> None:
        """Keep what changes are about to replace; `before` is the configuration until now."""
        if not self._has_begun:
            return
        moment, is_node_s = monotonic_s(), False
        for name, service in changes.services.items():
            # What is planned again because of the node comes as it is.
            is_same = service is not None and planner.services.get(name) is service
            is_node_s |= is_same
            self._wait(planner, name, "this node" if is_same else "Service", moment)
        if names := _node_settings(before, planner.config, concerned=is_node_s):
            self._of_node = _node_change(names, planner.config, changes), moment
        for name, piece in changes.slices.items():
            owner, reason = planner.owner_of(name), f"EndpointSlice {name.name}"
            if owner is not None:
                self._wait(planner, owner, reason, moment)
            if piece is not None and piece.service != owner:
                self._wait(planner, piece.service, reason, moment)

    def _wait(self, planner: Planner, service: ObjectName, reason: str, moment: float) -> None:
        if service in self._waiting:
            waiting = self._waiting[service]
        else:
            waiting = None
            if len(self._waiting) < _MOST_WAITING:
                waiting = _PlanBefore(planner.desired.plan_of(service), moment)
            self._waiting[service] = waiting
        if waiting is not None and len(waiting.because) < _MOST_REASONS:
            waiting.because[reason] = None

    def committed(self, planner: Planner, services: Set[ObjectName], left: int) -> None:
        """Record what a commit put in force: the changes of `services`; `left` others wait."""
        if not (self._waiting or self._of_node) and self._has_begun:
            return
        unix, moment, found = unix_s(), monotonic_s(), list[_Entry]()
        if not self._has_begun and not left:
            self._has_begun = True
            frontends = plural(len(planner.desired.frontends), "frontend")
            what = f"nfproxy started: {plural(len(planner.services), 'Service')}, {frontends}"
            found.append(_Entry(unix, process_age_s(), what))
        if self._of_node is not None and not left:
            (of_node, since_s), self._of_node = self._of_node, None
            found.append(of_node._replace(unix_s=unix, after_s=moment - since_s))
        finished = [name for name in self._waiting if name in services]
        for name in finished[:_MOST_SERVICES]:
            waiting = self._waiting.pop(name)
            if waiting is not None:
                because, after_s = reasons(waiting.because), moment - waiting.since_s
                for change in service_changes(waiting.before, planner.desired.plan_of(name)):
                    found.append(_Entry(unix, after_s, "", name, change, because))
        if others := finished[_MOST_SERVICES:]:
            known = [one for name in others if (one := self._waiting.pop(name))]
            since_s = min((one.since_s for one in known), default=moment)
            what = f"changes of {plural(len(others), 'more Service')}"
            found.append(_Entry(unix, moment - since_s, what))
        self._append(found)

    # --- in the event loop ---------------------------------------------------------------

    def foreign_change(self, change: ForeignChange) -> None:
        """Take a change by another process; it is recorded with its repair."""
        since_s = self._foreign[1] if self._foreign else monotonic_s()
        whole = self._foreign[0].followed_by(change) if self._foreign else change
        self._foreign = whole, since_s

    def repaired(self) -> None:
        """Record what other processes did, now that it is repaired."""
        if self._foreign is not None:
            (change, since_s), self._foreign = self._foreign, None
            after_s = monotonic_s() - since_s
            self._append([_foreign_entry(change, after_s)])

    # --- in any thread -------------------------------------------------------------------

    def waits(self, service: ObjectName) -> bool:
        """Return whether a Service was planned again, and the kernel does not have that yet."""
        return service in self._waiting

    def page(self, after: int = 0) -> ChangeRecords:
        """
        Return the records with a number above `after`; takes milliseconds.

        What is not repaired yet comes last, where all are asked for.
        """
        with self._lock:
            first = self._number - len(self._entries)
            packed = list(islice(self._entries, max(0, after - first), None))
            number = max(first, after)
        found = [_unpack(entry).record(number + n) for n, entry in enumerate(packed, 1)]
        foreign = self._foreign
        if foreign is not None and not after:
            found.append(_foreign_entry(foreign[0]).record(0))
        return ChangeRecords(forgotten=first, records=found)

    def by_others(self, since_s: float) -> ForeignSummary:
        """Return the changes by other processes from a Unix time on, that in progress included."""
        with self._lock:
            packed = list(self._entries)
        entries = map(_unpack, packed)
        found = [each for each in entries if each.by and each.unix_s >= since_s]
        foreign = self._foreign
        if foreign is not None:
            found.append(_foreign_entry(foreign[0]))
        return ForeignSummary(len(found), found[-1].record(0) if found else None)

    def _append(self, found: list[_Entry]) -> None:
        packed = [_pack(entry) for entry in found]
        with self._lock:
            self._entries.extend(packed)
            self._number += len(packed)
            self._bytes += sum(len(entry) + _OVERHEAD_BYTES for entry in packed)
            while len(self._entries) > _MOST_RECORDS or self._bytes > _MOST_BYTES:
                self._bytes -= len(self._entries.popleft()) + _OVERHEAD_BYTES
        if commits.isEnabledFor(logging.INFO):
            for entry in found:
                if entry.because:
                    commits.info("%s", _line(entry.record(0)))


def _foreign_entry(change: ForeignChange, after_s: float | None = None) -> _Entry:
    """Return what another process did, with the time until it was repaired."""
    found = _Entry(unix_s(), after_s, change.what, by=change.process)
    if len(change.services) > _MOST_OTHERS or len(change.frontends) > _MOST_OTHERS:
        return found  # many count as all
    return found._replace(services=change.services, frontends=change.frontends)


def _line(record: ChangeRecord) -> str:
    """Return a record as the log says it."""
    subject = f"{record.subject} " if record.subject else ""
    return f"{subject}{record.change} ({record.why}), in force after {record.in_force}"


def _node_settings(before: NodeConfig, after: NodeConfig, *, concerned: bool) -> list[str]:
    """
    Return in words which settings of the node differ.

    Each pod that comes or goes changes the host's addresses. Unless Services are `concerned`, that
    is no change of the node.
    """
    return [
        _SETTINGS.get(field, field.replace("_", " "))
        for field in before.__struct_fields__
        if getattr(before, field) != getattr(after, field) and (concerned or field != "kept")
    ]


def _node_change(names: list[str], after: NodeConfig, changes: Changes) -> _Entry:
    """Return a change of these settings of the node."""
    is_by_node = changes.node is not None
    because = f"Node {after.node_name}" if is_by_node else "addresses of this host or API servers"
    return _Entry(0.0, what=f"this node: {', '.join(names)}", because=(because,))
