"""
Changes that were taken in and are not planned yet, so that no planning takes long.

To plan a Service takes some 50 microseconds, and a list of 20,000 of them a second. Meanwhile no
other change would come into the kernel. The same holds for Services that another configuration of
the node concerns.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

import msgspec

from nfproxy.model.changes import Changes, Trigger
from nfproxy.model.endpoints import EndpointSlice
from nfproxy.model.service import ObjectName, Service

#: Returns the Service that a slice had last; None for a slice that is not known.
Owner = Callable[[ObjectName], ObjectName | None]


class _OfService(msgspec.Struct):
    """What changed of one Service."""

    services: dict[ObjectName, Service | None] = msgspec.field(default_factory=dict)
    slices: dict[ObjectName, EndpointSlice | None] = msgspec.field(default_factory=dict)
    triggers: dict[ObjectName, tuple[Trigger, ...]] = msgspec.field(default_factory=dict)


class Unplanned:
    """
    Changes that wait, by Service. A Service and its slices are planned together.

    A small batch goes first, with what waits of its Services: a large one does not delay it.
    """

    def __init__(self, owner: Owner) -> None:
        """Start empty. `owner` knows the slices that have been planned."""
        self._owner = owner
        self._waiting: dict[ObjectName, _OfService] = {}
        self._owners: dict[ObjectName, ObjectName] = {}  # of slices that wait
        self._again: dict[ObjectName, Service | None] = {}  # did not change, and have been planned

    def __len__(self) -> int:
        """Return how many Services wait."""
        return len(self._waiting) + len(self._again)

    @property
    def changed(self) -> int:
        """How many Services wait because they or their slices changed."""
        return len(self._waiting)

    def plan_again(self, changes: Changes) -> None:
        """Let Services wait that are as they were, and are to be planned after everything else."""
        waiting = self._waiting
        self._again |= {
            name: service
            for name, service in changes.services.items()
            if name not in waiting or not waiting[name].services
        }

    def take(self, changes: Changes, most: int) -> Changes:
        """
        Let the changes of Services wait; return the next ones, of about `most` Services.

        Everything else in `changes` is returned at once.
        """
        if not self and len(changes.services) + len(changes.slices) <= most:
            return changes
        names = self._add(changes)
        first = names if len(names) <= most else list(self._waiting)[:most]
        if len(first) < most:
            others = (name for name in self._waiting if name not in names)
            first = [*first, *islice(others, most - len(first))]
        services: dict[ObjectName, Service | None] = {}
        slices: dict[ObjectName, EndpointSlice | None] = {}
        triggers: dict[ObjectName, tuple[Trigger, ...]] = {}
        for name in first:
            waiting = self._waiting.pop(name)
            services |= waiting.services
            slices |= waiting.slices
            triggers |= waiting.triggers
        for name in slices:
            self._owners.pop(name, None)
        for name in [*islice(self._again, max(0, most - len(first)))]:
            services[name] = self._again.pop(name)
        return msgspec.structs.replace(changes, services=services, slices=slices, triggers=triggers)

    def _add(self, changes: Changes) -> dict[ObjectName, None]:
        """Add changes to those that wait; return the Services that they are about."""
        names: dict[ObjectName, None] = {}
        for name, service in changes.services.items():
            self._of(name, names).services[name] = service
            self._again.pop(name, None)  # it is an older version
        for name, piece in changes.slices.items():
            before = self._owners.get(name) or self._owner(name)
            service_name = piece.service if piece is not None else before
            if before is not None and before != service_name and before in self._waiting:
                self._waiting[before].slices.pop(name, None)
            if service_name is not None:
                self._of(service_name, names).slices[name] = piece
                self._owners[name] = service_name
        for name, times in changes.triggers.items():
            waiting = self._of(name, names)
            waiting.triggers[name] = waiting.triggers.get(name, ()) + times
        return names

    def _of(self, name: ObjectName, names: dict[ObjectName, None]) -> _OfService:
        names[name] = None
        return self._waiting.setdefault(name, _OfService())
