"""
When the daemon does what: the deadlines of its loop, as one value without clock or loop.

Events come in with their time; the answers are which task is due now, and how long none is. All
times are seconds of one monotonic clock.
"""

from __future__ import annotations

import enum
import math

import msgspec

from nfproxy.backoff import Backoff

# The back-off of failed syncs.
_FIRST_DELAY_S = 0.25

# The longest delay of a repair, and of a retry while the rules are known to be broken.
_LAST_REPAIR_DELAY_S = 4.0

# After a repair no other begins for this share of the time that it took, within these bounds.
_REST_SHARE = 0.5
_SHORTEST_REST_S, _LONGEST_REST_S = 0.01, 4.0

# Repairs of elements alone get this share of one processor, after so many seconds at once.
_ELEMENTS_SHARE, _ELEMENTS_AT_ONCE_S = 0.1, 1.0


class SyncTimings(msgspec.Struct, frozen=True):
    """
    How often the daemon syncs, in seconds.

    `pause_s` passes between the end of a sync and the next batch of changes (``minSyncPeriod``); a
    change after a longer quiet time is synced at once. A failed sync is retried with back-off, at
    most `retry_s` (``syncPeriod``) later. Every `audit_s` the tables are read and compared as a
    whole. At start the daemon waits `node_wait_s` for a Node that the configuration can be used
    with. For `addresses_wait_s` it expects that a Node without addresses gets some.
    """

    pause_s: float = 0.0
    retry_s: float = 30.0
    audit_s: float = 3600.0
    node_wait_s: float = 0.0
    addresses_wait_s: float = 0.0


class Task(enum.Enum):
    """What the daemon does next, besides taking in changes of objects."""

    RETRY = "retry"  # sync again, after one that failed
    USE_NO_ADDRESSES = "use no addresses"  # stop expecting addresses of the Node
    REPAIR = "repair"  # read and compare the tables, after a foreign change
    GO_ON = "go on"  # commit more of what the last sync left
    AUDIT = "audit"  # read and compare the tables, to be sure
    TIDY = "tidy"  # remove what lingered for packets that had read the old rules


class Schedule:
    """
    Which task is due when.

    After a failure only the retry is due: every other task needs a kernel that takes commits. While
    the rules are broken only their repair is due: other commits may miss a table. Otherwise, of
    several tasks that are due, the first in the order of :class:`Task` is.

    Belongs to the event loop.
    """

    def __init__(self, timings: SyncTimings, now_s: float) -> None:
        """Start when the daemon does; nothing has been synced yet."""
        self._timings = timings
        self._retry_at: float | None = None
        self._retries = Backoff(_FIRST_DELAY_S, timings.retry_s)
        self._resume_at = now_s
        self._is_unfinished = False
        self._audit_at = now_s + timings.audit_s
        self._tidy_at = math.inf
        self._node_deadline = now_s
        self._addresses_deadline = math.inf
        if timings.addresses_wait_s:
            self._addresses_deadline = now_s + timings.addresses_wait_s
        self._repair_at = math.inf
        self._repairs = _Repairs()

    # --- answers -------------------------------------------------------------------------

    @property
    def retry_pending(self) -> bool:
        """Whether the last sync failed. Changes are then planned, and synced by the retry."""
        return self._retry_at is not None

    @property
    def is_unfinished(self) -> bool:
        """Whether the last sync left something for the next one."""
        return self._is_unfinished

    @property
    def is_broken(self) -> bool:
        """Whether another process has broken the rules. Changes then wait for the repair."""
        return self._repairs.is_broken

    @property
    def repair_pending(self) -> bool:
        """Whether another process has changed the tables, and that is not repaired yet."""
        return self._repairs.is_pending

    @property
    def expects_addresses(self) -> bool:
        """Whether a Node without addresses may still get some."""
        return self._addresses_deadline != math.inf

    def due(self, now_s: float) -> Task | None:
        """Return the task that is due, None while nothing is."""
        if self._retry_at is not None:
            return Task.RETRY if self._retry_at <= now_s else None
        if self.is_broken:
            return Task.REPAIR if self._repair_at <= now_s else None
        return next((task for task, when in self._deadlines() if when <= now_s), None)

    def idle_s(self, now_s: float) -> float:
        """Return how long nothing is due; 0 if something is."""
        if self._retry_at is not None:
            next_at = self._retry_at
        elif self.is_broken:
            next_at = self._repair_at
        else:
            next_at = min(when for _, when in self._deadlines())
        return max(0.0, next_at - now_s)

    def pause_left_s(self, now_s: float) -> float:
        """Return how long no changes are to be taken in; 0 if they may be."""
        return max(0.0, self._resume_at - now_s)

    def node_wait_left_s(self, now_s: float) -> float:
        """Return how long to wait for a Node that fits the configuration; 0 if no longer."""
        return max(0.0, self._node_deadline - now_s)

    def _deadlines(self) -> tuple[tuple[Task, float], ...]:
        """Return when each task is due, except for the retry; the first task that is due wins."""
        return (
            (Task.USE_NO_ADDRESSES, self._addresses_deadline),
            (Task.REPAIR, self._repair_at),
            (Task.GO_ON, -math.inf if self._is_unfinished else math.inf),
            (Task.AUDIT, self._audit_at),
            (Task.TIDY, self._tidy_at),
        )

    # --- events --------------------------------------------------------------------------

    def node_awaited(self, now_s: float) -> None:
        """Begin to wait for a Node: the source has given all objects for the first time."""
        self._node_deadline = now_s + self._timings.node_wait_s

    def addresses_settled(self) -> None:
        """Stop expecting addresses: the Node has some, or had its time."""
        self._addresses_deadline = math.inf

    def synced(
        self,
        began_s: float,
        ended_s: float,
        *,
        tables_read: bool,
        is_partial: bool = False,
        is_finished: bool = True,
        goes_on: bool = False,
        cost_s: float | None = None,
    ) -> None:
        """
        A sync succeeded.

        `tables_read`: it compares the whole tables, not only what changed; with `is_partial`, what
        foreign changes touched. Where it is not `is_finished`, another one `goes_on` with it. That
        one lets no pause begin. `cost_s` is the processor time it took; by default all of its time.
        """
        self._retry_at = None
        self._retries.reset()
        self._is_unfinished = not is_finished
        if not goes_on:
            self._resume_at = ended_s + self._timings.pause_s
        if not tables_read:
            return
        if not is_partial:
            self._audit_at = ended_s + self._timings.audit_s
        self._repairs.tables_read(began_s, ended_s, ended_s - began_s if cost_s is None else cost_s)
        # A foreign change since the beginning may have come after its table had been read.
        missed = self._repairs.last_change_s >= began_s
        self._repair_at = self._repairs.due_at if missed else math.inf

    def failed(self, began_s: float, ended_s: float) -> float:
        """A sync, or tidying, failed. Return how many seconds later to retry."""
        self._is_unfinished = False  # a retry compares everything
        if self._repairs.last_break_s >= began_s:
            # The other process is why: the kernel is well, and only a repair helps.
            delay_s = self._repairs.rest_s(began_s, ended_s)
        else:
            delay_s = self._retries.next_s()
            if self.is_broken:
                delay_s = min(delay_s, _LAST_REPAIR_DELAY_S)
        self._retry_at = ended_s + delay_s
        return delay_s

    def tidy_due(self, at_s: float | None) -> None:
        """Tidying is due at `at_s`; None if nothing lingers."""
        self._tidy_at = math.inf if at_s is None else at_s

    def foreign_change(self, now_s: float, *, breaks: bool) -> float | None:
        """
        Another process changed the tables. Return how many seconds later they are repaired.

        `breaks`: more than elements, so that Services may fail as a whole. None where a repair or
        retry that is due by then covers this change, too.
        """
        delay_s = self._repairs.foreign_change(now_s, breaks=breaks)
        # Not later than a repair that is due already, or a process that changes the tables all the
        # time would put it off for ever. And set again if another sync read the tables meanwhile.
        self._repair_at = min(self._repair_at, self._repairs.due_at)
        if breaks and self._retry_at is not None:
            if self._retry_at <= self._repair_at:
                return None
            self._retry_at = self._repair_at
        return delay_s


class _Repairs:
    """
    How soon a foreign change is repaired.

    Broken rules are repaired at once, as often as it takes: meanwhile no Service may work. Only
    half of the time that the last repair took passes first, so that repairs leave a third of one
    processor to others.

    Elements are less urgent. A firewall that reloads, or an administrator at work, makes a few
    changes in a row: those are repaired at once. Two programs that both claim the tables must not
    take turns for ever. So repairs of elements may take a tenth of a processor on average. Those
    that take 0.1 s come once a second, then, however many changes there are.
    """

    def __init__(self) -> None:
        self.due_at = -math.inf  # of the repair that covers everything changed so far
        self.last_change_s = -math.inf
        self.last_break_s = -math.inf
        self._read_s = -math.inf  # the last reading of the whole tables began then
        self._rested_at = -math.inf  # no repair begins before
        self._spent_s = 0.0  # on repairs lately, as of `_spent_at`
        self._spent_at = -math.inf

    @property
    def is_pending(self) -> bool:
        """Whether there was a change that no reading of the tables has covered."""
        return -math.inf < self.last_change_s >= self._read_s

    @property
    def is_broken(self) -> bool:
        """Whether one of these changes broke the rules."""
        return -math.inf < self.last_break_s >= self._read_s

    def rest_s(self, began_s: float, ended_s: float) -> float:
        """Return how long to rest after a repair, or an attempt at it, that took so long."""
        rest_s = min(max((ended_s - began_s) * _REST_SHARE, _SHORTEST_REST_S), _LONGEST_REST_S)
        self._rested_at = ended_s + rest_s
        return rest_s

    def tables_read(self, began_s: float, ended_s: float, cost_s: float) -> None:
        """The tables were read, compared and repaired, which cost so much processor time."""
        if self.is_pending:
            self.rest_s(began_s, ended_s)
            self._spent_s, self._spent_at = self._spent_lately_s(ended_s) + cost_s, ended_s
        self._read_s = began_s
        if self.is_pending:
            self.due_at = max(self.due_at, self._rested_at)

    def foreign_change(self, now_s: float, *, breaks: bool) -> float | None:
        """Return in how many seconds to repair a change; None where `due_at` covers it."""
        self.last_change_s = now_s
        rested_at = max(now_s, self._rested_at)
        if breaks:
            self.last_break_s = now_s
            if now_s < self.due_at <= rested_at:
                return None
            self.due_at = rested_at
            return rested_at - now_s
        if now_s < self.due_at:
            return None
        too_much_s = max(0.0, self._spent_lately_s(now_s) - _ELEMENTS_AT_ONCE_S)
        delay_s = min(too_much_s / _ELEMENTS_SHARE, _LAST_REPAIR_DELAY_S)
        self.due_at = max(now_s + delay_s, rested_at)
        return self.due_at - now_s

    def _spent_lately_s(self, now_s: float) -> float:
        return max(0.0, self._spent_s - (now_s - self._spent_at) * _ELEMENTS_SHARE)
