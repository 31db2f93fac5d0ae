"""
What changed, why and how fast, as values: the rows of ``nfproxy changes`` and of the log.

Each is small, whatever changed: it names the first few frontends and endpoints, and counts the
others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import chain, islice
from typing import NamedTuple

import msgspec

from nfproxy.insight.daemonstatus import API_VERSION
from nfproxy.insight.question import AddressQuestion, Question, ServiceQuestion
from nfproxy.model.addresses import format_address
from nfproxy.nft.chains import NO_LOCAL, REJECT
from nfproxy.plan.endpoints import Destination
from nfproxy.plan.frontends import NO_SLOTS, Frontend, FrontendKey, ServicePlan, SlotRanges
from nfproxy.views.elementwords import format_destination

#: Where the daemon serves them, to clients on loopback addresses; ``?after=NUMBER`` for later ones.
CHANGES_PATH = "/changes"

_MOST_FRONTENDS = 64  # of one Service that are compared
_MOST_NAMED = 8  # frontends, and endpoints that came or left
_MOST_REASONS = 4
_MOST_SUBJECTS = 2  # service ports in one cell


class ChangeRecord(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """
    One change, of one service port where `service` is not "".

    `number` grows by one from record to record. `at` is the time, RFC 3339. `what` says what
    happened besides endpoints that came (`added`) and left (`removed`). `because` names the objects
    that changed. `by` is another process that changed our tables: ``nft (pid 4711)``; `services`
    are then the service ports that it concerned, () where that may be any. `after_ms` is how long
    it took until the change, or its repair, was in force; None while it is not.
    """

    number: int = 0
    at: str = ""
    service: str = ""
    port: str = ""
    frontends: tuple[str, ...] = ()
    more_frontends: int = 0
    what: str = ""
    added: tuple[str, ...] = ()
    more_added: int = 0
    removed: tuple[str, ...] = ()
    more_removed: int = 0
    because: tuple[str, ...] = ()
    by: str = ""
    services: tuple[str, ...] = ()
    after_ms: float | None = None

    @property
    def subject(self) -> str:
        """The service port, ``shop/web:http``, or several; "" for the node or its tables."""
        if self.services:
            more = len(self.services) - _MOST_SUBJECTS
            return _listed(self.services[:_MOST_SUBJECTS], max(0, more))
        return f"{self.service}:{self.port}" if self.port else self.service

    @property
    def change(self) -> str:
        """What changed in words, without the service port."""
        if self.by:
            return self.what
        where = _listed(self.frontends, self.more_frontends)
        parts = [self.what] if self.what else []
        if self.added:
            parts.append("+ " + _listed(self.added, self.more_added))
        if self.removed:
            parts.append("- " + _listed(self.removed, self.more_removed))
        change = ", ".join(parts)
        return f"{where}: {change}" if where and change else where or change

    @property
    def why(self) -> str:
        """The objects, or the process, that it comes from."""
        return f"{self.by}, not us" if self.by else ", ".join(self.because)

    @property
    def in_force(self) -> str:
        """How long it took; only what others did is recorded before that is known."""
        if self.after_ms is None:
            return "not repaired yet"
        took = duration_text(self.after_ms)
        return f"repaired, {took}" if self.by else took

    @property
    def is_about_all(self) -> bool:
        """Whether it is what another process did to the tables as a whole."""
        return bool(self.by and not self.services)

    def concerns(self, question: Question) -> bool:
        """
        Return whether it is about a Service, a frontend or an endpoint.

        What another process did to the tables as a whole is about all of them.
        """
        if self.is_about_all:
            return True
        if isinstance(question, ServiceQuestion):
            if self.by:
                names = (str(question),) if question.port else ()
                return any(
                    one in names or (not names and one.partition(":")[0] == str(question.name))
                    for one in self.services
                )
            return self.service == str(question.name) and question.port in ("", self.port)
        return any(_is_at(text, question) for text in (*self.frontends, *self.added, *self.removed))


class ChangeRecords(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The page of changes; `records` are in their order, `forgotten` counts those before them."""

    api_version: str = API_VERSION
    kind: str = "ChangeRecords"
    forgotten: int = 0
    records: list[ChangeRecord] = []


def duration_text(milliseconds: float) -> str:
    """Return a duration as a person would write it: ``1.6 ms``, ``74 ms``, ``3.2 s``."""
    if milliseconds < 10:
        return f"{milliseconds:.1f} ms"
    return f"{milliseconds:.0f} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.1f} s"


def _listed(texts: tuple[str, ...], more: int) -> str:
    return ", ".join(texts) + (f" and {more:,} more" if more else "")


def _is_at(text: str, question: AddressQuestion) -> bool:
    """Return whether the text of a frontend or an endpoint is what was asked about."""
    place, _, protocol = text.partition("/")
    protocol = protocol.partition(" ")[0]
    if question.protocol is not None and protocol not in ("", question.protocol.word):
        return False
    address, _, port = place.removeprefix("node port ").rpartition(":")
    wanted = format_address(question.address) if question.address else ""
    return address.strip("[]") == wanted and question.port in (0, int(port))


# --- from two plans of a Service --------------------------------------------------------------

_ANSWERS = {REJECT: "refused", NO_LOCAL: "dropped"}

_Endpoints = frozenset[Destination]
_NO_ENDPOINTS: _Endpoints = frozenset()


class PortChange(NamedTuple):
    """
    What differs between two plans for one service port in one family.

    Packed values: most records are never read. `frontends`, `added` and `removed` are the first
    few of as many as the counts say.
    """

    port: str
    what: str
    added: tuple[Destination, ...]
    added_count: int
    removed: tuple[Destination, ...]
    removed_count: int
    frontends: list[FrontendKey]
    frontends_count: int

    def record(self, service: str) -> ChangeRecord:
        """Return it as a record."""
        family = self.frontends[0].family
        added, removed = (
            tuple(format_destination(family, d) for d in sorted(some))
            for some in (self.added, self.removed)
        )
        return ChangeRecord(
            service=service,
            port=self.port,
            # Cluster IPs and other addresses first, node ports after them.
            frontends=tuple(map(str, sorted(self.frontends, key=lambda k: (not k.address, k)))),
            more_frontends=self.frontends_count - len(self.frontends),
            what=self.what,
            added=added,
            more_added=self.added_count - len(added),
            removed=removed,
            more_removed=self.removed_count - len(removed),
        )


def service_changes(before: ServicePlan | None, after: ServicePlan | None) -> list[PortChange]:
    """Return what differs between two plans of a Service (None: no plan), by port."""
    held = {f.key: f for f in before.frontends} if before else {}
    wanted = {f.key: f for f in after.frontends} if after else {}
    groups: dict[tuple[str, str, _Endpoints, _Endpoints], list[FrontendKey]] = {}
    compared = 0
    old = new = NO_SLOTS
    come = gone = _NO_ENDPOINTS
    for key in held | wanted:
        was, now = held.get(key), wanted.get(key)
        if was == now:
            continue
        compared += 1
        if compared > _MOST_FRONTENDS:
            break
        slots = was.slot_ranges if was else NO_SLOTS, now.slot_ranges if now else NO_SLOTS
        # Frontends of a port mostly have the same endpoints, often the very same tuple.
        if slots != (old, new):
            old, new = slots
            come, gone = _come_and_gone(old, new)
        some = now or was
        port = some.claim.port_name if some else ""
        what = _what(was, now, is_same=not (come or gone))
        groups.setdefault((port, what, come, gone), []).append(key)
    return [
        PortChange(
            port,
            what,
            tuple(islice(come, _MOST_NAMED)),
            len(come),
            tuple(islice(gone, _MOST_NAMED)),
            len(gone),
            keys[:_MOST_NAMED],
            len(keys),
        )
        for (port, what, come, gone), keys in groups.items()
    ]


def _come_and_gone(old: SlotRanges, new: SlotRanges) -> tuple[_Endpoints, _Endpoints]:
    """Return the endpoints that are new, and those that left."""
    if old == new:
        return _NO_ENDPOINTS, _NO_ENDPOINTS
    held, wanted = (frozenset(chain(*slots)) for slots in (old, new))
    return wanted - held, held - wanted


def _what(was: Frontend | None, now: Frontend | None, *, is_same: bool) -> str:
    """Return what changed besides endpoints, "" for nothing; these are the same or not."""
    if now is None:
        return "gone"
    answer = _ANSWERS.get(now.answer, "")
    if was is None:
        return f"new, {answer}" if answer else "new"
    if _ANSWERS.get(was.answer, "") != answer:
        return f"now {answer or 'served'}"
    return "other settings" if is_same else ""


def reasons(because: Collection[str]) -> tuple[str, ...]:
    """Return the first few reasons, and how many more there are."""
    if len(because) <= _MOST_REASONS:
        return tuple(because)
    more = len(because) - _MOST_REASONS
    return (*islice(because, _MOST_REASONS), f"{more:,} more")


def concerning(
    records: Iterable[ChangeRecord], question: Question | None, since: str
) -> list[ChangeRecord]:
    """Return the records from a time on (RFC 3339, "" for all) that a question is about."""
    return [
        record
        for record in records
        if record.at >= since and (question is None or record.concerns(question))
    ]
