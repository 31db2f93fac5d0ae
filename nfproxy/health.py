"""
Whether this node's proxy is healthy: what ``/healthz``, ``/livez`` and ``/readyz`` answer.

Everything here computes; the time is an argument. The rules are kube-proxy's (KEP-3836), with four
differences. While another process's change of the tables is not repaired, this node asks for no
traffic; it stays alive, since a restart would repair nothing sooner. A deleted Node gets no new
connections at once (kube-proxy goes on with the last object it saw). A failed sync is a request for
another one, so a first sync that never succeeds makes the proxy unhealthy. And there is
``/readyz``. A 503 says why.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.model.node import Node
from nfproxy.text import plural

#: Go's zero time.
ZERO_TIME = "0001-01-01T00:00:00Z"

#: After so many sync periods without a success, a request makes the proxy unhealthy.
_PERIODS = 2

#: A wait for another process's transaction is shown from so many seconds on.
_LONG_WAIT_S = 1.0

_SECOND_NS = 1_000_000_000


class Instant(NamedTuple):
    """
    One moment by two clocks.

    `monotonic_s` measures durations; `unix_ns`, nanoseconds since 1970, is for people.
    """

    monotonic_s: float
    unix_ns: int


class Answer(NamedTuple):
    """What a health page answers: an HTTP status code, and JSON without a newline at its end."""

    code: int
    body: bytes


class HealthState(NamedTuple):
    """
    What the pages say, each as a text for people, "" for nothing.

    `not_ready` is why not everything is programmed, or healthy, `node` what is wrong with the Node,
    `api_server` why it cannot be followed, `kernel` what it makes wait or refuses.
    """

    not_ready: str
    node: str
    api_server: str
    kernel: str


class _Sync(NamedTuple):
    """
    The syncs of a family.

    `updated_ns` is the Unix time of the last success, or of the start before the first one; None if
    the family is not proxied. `pending_s` is the monotonic time of the oldest request since the
    last success, None if there was no request. `programmed`: there was a success.
    """

    updated_ns: int | None = None
    pending_s: float | None = None
    programmed: bool = False


class _FamilyStatus(msgspec.Struct, frozen=True, rename="camel"):
    last_updated: str
    healthy: bool


class _Status(msgspec.Struct, frozen=True, rename="camel"):
    """The body of an answer, with kube-proxy's keys in kube-proxy's order; UNSET is left out."""

    last_updated: str
    current_time: str
    node_eligible: bool | UnsetType
    healthy: bool
    programmed: bool | UnsetType
    status: Mapping[str, _FamilyStatus] | UnsetType
    reason: str | UnsetType  # of a 503; kube-proxy gives none
    api_server: str | UnsetType = UNSET  # while it cannot be followed, whatever the code
    kernel: str | UnsetType = UNSET  # while it makes a sync wait, or refuses something


class Health:
    """The state behind the health pages. Any thread may call."""

    def __init__(self, sync_period_s: float) -> None:
        """Start with no family and no Node; a sync may be pending for two sync periods."""
        self._longest_wait_s = _PERIODS * sync_period_s
        self._syncs: dict[Family, _Sync] = dict.fromkeys(FAMILIES, _Sync())
        self._changes: Mapping[Family, str] = {}
        self._progress = "Services have not been programmed yet"
        self._node: Node | None = None
        self._node_trouble = "the Node object has not been read yet"
        self._refused_parts = 0
        self._api_trouble: Callable[[], str] = str
        self._lock_wait_s: Callable[[], float] = float
        self._lock = threading.Lock()

    def explain_api_server(self, trouble: Callable[[], str]) -> None:
        """
        Let `trouble` say why the API server cannot be followed, "" while it can.

        Every page shows the text, and anyone may read them. No answer changes its code: installed
        rules serve. The callable runs in the thread that asks for a page.
        """
        self._api_trouble = trouble

    def explain_waits(self, seconds: Callable[[], float]) -> None:
        """
        Let `seconds` say how long a sync has been waiting for another process's transaction.

        Meanwhile this process is not stuck, and a restart would wait as long: it stays alive.
        """
        self._lock_wait_s = seconds

    def started(self, family: Family, now: Instant) -> None:
        """The daemon proxies a family; other families do not count."""
        with self._lock:
            self._syncs[family] = self._syncs[family]._replace(updated_ns=now.unix_ns)

    def queued(self, family: Family, now: Instant) -> None:
        """
        A sync is needed: something changed, or a sync failed.

        The oldest request counts, until a sync succeeds.
        """
        with self._lock:
            sync = self._syncs[family]
            if sync.pending_s is None:
                self._syncs[family] = sync._replace(pending_s=now.monotonic_s)

    def succeeded(self, family: Family, now: Instant) -> None:
        """A sync succeeded; everything requested until now is programmed."""
        with self._lock:
            self._syncs[family] = _Sync(now.unix_ns, None, programmed=True)

    def programming(self, services: int, total: int) -> None:
        """This number of Services is programmed, of so many."""
        self._progress = f"{max(0, services)} of {total} Services are programmed"

    def parts_refused(self, count: int) -> None:
        """
        The kernel refuses so many parts of the desired state now.

        Every page says so, and none changes its code. The rest is programmed, and most nodes would
        refuse the same: load balancers must not leave all of them.
        """
        self._refused_parts = count

    def out_of_step(self, families: Collection[Family], what: str) -> None:
        """Another process changed the tables of these families, as `what` says."""
        with self._lock:
            self._changes = {**self._changes, **dict.fromkeys(families, what)}

    def repaired(self) -> None:
        """The tables of all families hold what they should."""
        with self._lock:
            self._changes = {}

    def node_seen(self, node: Node) -> None:
        """Remember this node's Node object."""
        self._node = node

    def node_gone(self) -> None:
        """This node's Node object was deleted."""
        self._node_trouble = "the Node object was deleted"
        self._node = None

    def node_missing(self, why: str) -> None:
        """The API server has no Node object for this node; `why` is for people."""
        self._node_trouble = why

    @property
    def eligible(self) -> bool:
        """Whether load balancers should send new connections to this node."""
        node = self._node  # read once: another thread may replace it
        return node is not None and not node.leaving

    @property
    def programmed(self) -> bool:
        """Whether the tables of every family that is proxied hold what they should."""
        started = [sync for sync in self._syncs.values() if sync.updated_ns is not None]
        return bool(started) and all(sync.programmed for sync in started) and not self._changes

    def healthy(self, now: Instant) -> bool:
        """Return whether no family has had a pending request for two sync periods."""
        return all(self._is_healthy(sync, now) for sync in self._syncs.values())

    def serving(self, now: Instant) -> bool:
        """Return whether load balancers may send connections: healthy, and tables in step."""
        return self.healthy(now) and not self._changes

    def healthz(self, now: Instant) -> Answer:
        """Answer 200 if load balancers should use this node: in step, and the Node eligible."""
        reason = self._ineligible
        return _answer(self._judge(now, self._changes, reason, node_eligible=not reason))

    def livez(self, now: Instant) -> Answer:
        """
        Answer 200 if the sync is healthy, or waits for another process's transaction.

        Tables out of step and the Node do not matter.
        """
        return _answer(self._judge(now, {}, may_wait=True))

    def readyz(self, now: Instant) -> Answer:
        """Answer 200 if everything is programmed, and the sync is healthy."""
        return _answer(self._readiness(now))

    def state(self, now: Instant) -> HealthState:
        """Return what the pages say, as values."""
        ready = self._readiness(now)
        texts = (ready.reason, self._ineligible, ready.api_server, ready.kernel)
        return HealthState(*(text or "" for text in texts))

    @property
    def _ineligible(self) -> str:
        """Why load balancers should not use this node, by its Node object; "" for no reason."""
        node = self._node  # read once: another thread may replace it
        if node is None:
            return self._node_trouble
        return "the Node is about to be removed" if node.leaving else ""

    def _readiness(self, now: Instant) -> _Status:
        programmed = self.programmed
        is_new = not programmed and not self._changes
        reason = self._progress if is_new else ""
        return self._judge(now, self._changes, reason, programmed=programmed)

    def _is_healthy(self, sync: _Sync, now: Instant) -> bool:
        return (
            sync.updated_ns is None
            or sync.pending_s is None
            or now.monotonic_s - sync.pending_s < self._longest_wait_s
        )

    def _judge(
        self,
        now: Instant,
        changes: Mapping[Family, str],
        reason: str = "",
        *,
        node_eligible: bool | UnsetType = UNSET,
        programmed: bool | UnsetType = UNSET,
        may_wait: bool = False,
    ) -> _Status:
        """
        Return the body: with a reason for `changes` of others, for a `reason`, an overdue sync.

        With `may_wait` a sync that waits for another process's transaction is not.
        """
        wait_s, refused_parts = self._lock_wait_s(), self._refused_parts
        waits = wait_s >= _LONG_WAIT_S
        kernel = []
        if waits:
            kernel.append(
                f"waiting for another process's transaction on nf_tables for {wait_s:.0f} s"
            )
        if refused_parts:
            refused = plural(refused_parts, "part")
            kernel.append(f"the kernel refuses {refused} of what it should hold; see the log")
        # A copy, so that `healthy` and `status` agree while other threads report syncs.
        started = [(f, s) for f, s in list(self._syncs.items()) if s.updated_ns is not None]
        status = {
            family.label: _FamilyStatus(
                rfc3339(sync.updated_ns or 0),
                (self._is_healthy(sync, now) or (waits and may_wait)) and family not in changes,
            )
            for family, sync in started
        }
        healthy = all(each.healthy for each in status.values())
        reasons = sorted({*changes.values()})
        if reason:
            reasons.append(reason)
        is_overdue = not all(self._is_healthy(sync, now) for _, sync in started)
        if is_overdue and not (waits and may_wait):
            reasons.append(f"no sync has succeeded for {self._longest_wait_s:g} s; see the log")
        good = not reasons
        if good:
            # As in kube-proxy: "updated" means "was found healthy", once that is so.
            updated_ns: int | None = now.unix_ns
        else:
            updated_ns = max((sync.updated_ns or 0 for _, sync in started), default=None)
        return _Status(
            last_updated=ZERO_TIME if updated_ns is None else rfc3339(updated_ns),
            current_time=rfc3339(now.unix_ns),
            node_eligible=node_eligible,
            healthy=healthy,
            programmed=programmed,
            status=status or UNSET,
            reason="; ".join(reasons) or UNSET,
            api_server=self._api_trouble() or UNSET,
            kernel="; ".join(kernel) or UNSET,
        )


def _answer(body: _Status) -> Answer:
    return Answer(503 if body.reason else 200, msgspec.json.encode(body))


def rfc3339(unix_ns: int) -> str:
    """Return a time as Go writes it: UTC, at most nine fraction digits, no trailing zeros."""
    seconds, rest = divmod(unix_ns, _SECOND_NS)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    return f"{text}{fraction}Z"
