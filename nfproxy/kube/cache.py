"""
The latest good version of every object, and what of that has not been passed on.

One cache serves both sources of objects. An API server puts and removes single objects and lists
a kind as a whole; manifests replace what one file holds. Either way :meth:`ObjectCache.take` gives
differences: between what its reader took last and what is there now, however that came about.

The cache shares its values with what it gives out: an object exists once in memory, here and in
the planner.
"""

from __future__ import annotations

from typing import Any

import msgspec

from nfproxy.kube.decode import Data, Value, decode
from nfproxy.kube.heldfiles import FileContent, HeldFiles, ObjectKey
from nfproxy.kube.identity import Kind, identify
from nfproxy.model.changes import Changes, Problem, Trigger
from nfproxy.model.service import ObjectName
from nfproxy.model.sharing import share_equal_fields

_MAX_TRIGGERS = 1000  # kept for one Service until the next `take`


class CacheChange(msgspec.Struct, frozen=True):
    """
    What an event of an API server did to the cache.

    `changed` is true where anything that nfproxy reads has changed. `problems` are those that the
    version before did not have. `is_usable` is false for a version that cannot be used, so that the
    one before stays. `name` is None where the object has none. `version` is the resourceVersion.
    `is_another` is true for an object that replaced another of its name without a removal or list.
    """

    kind: Kind
    name: ObjectName | None
    changed: bool = False
    problems: tuple[Problem, ...] = ()
    is_usable: bool = True
    version: str = ""
    is_another: bool = False


class ObjectCache:
    """
    The latest good version of each Service, EndpointSlice, ServiceCIDR and this node's Node.

    An object whose new version cannot be used keeps its last good one, if it had any. No method
    raises for bad input. The cost of a call is that of the objects it is about.

    Not safe for threads: its source calls it from one thread at a time.
    """

    def __init__(self, node_name: str, started_s: float = 0.0) -> None:
        """
        Start empty.

        Of Nodes only the one called `node_name` is kept. Trigger times before `started_s` (Unix
        seconds, when this process began) are left out: nfproxy was not there to be slow with them.
        """
        self._node_name = node_name
        self._started_s = started_s
        self._current: dict[Kind, dict[ObjectName, Value]] = {kind: {} for kind in Kind}
        # The version at the last `take`, of each object that may have changed since.
        self._taken: dict[Kind, dict[ObjectName, Value | None]] = {kind: {} for kind in Kind}
        self._was_taken = False
        self._triggers: dict[ObjectName, list[Trigger]] = {}
        self._problems: dict[Kind, dict[ObjectName | None, tuple[Problem, ...]]] = {
            kind: {} for kind in Kind
        }
        # While a list of a kind is under way: what is known and has not been in the list yet.
        self._unlisted: dict[Kind, set[ObjectName | None]] = {}
        # By an API server. A directory need not hold the Node: its absence there says nothing.
        self._node_was_removed = False
        self._files = HeldFiles()

    # --- what readers want to know ---------------------------------------------------------

    @property
    def untaken(self) -> int:
        """How many objects may have changed since the last `take`; 0 before the first."""
        return sum(map(len, self._taken.values())) if self._was_taken else 0

    def take(self) -> Changes:
        """Return what differs from all that was taken before, in order of name."""
        self._was_taken = True
        nodes = self._differences(Kind.NODE)
        node = next(iter(nodes.values()), None)
        triggers, self._triggers = self._triggers, {}
        return Changes(
            services=self._differences(Kind.SERVICE),
            slices=self._differences(Kind.ENDPOINT_SLICE),
            service_cidrs={
                name.name: value for name, value in self._differences(Kind.SERVICE_CIDR).items()
            },
            node=node,
            node_gone=bool(nodes) and node is None and self._node_was_removed,
            triggers={name: tuple(times) for name, times in triggers.items()},
        )

    @property
    def has_changes(self) -> bool:
        """Whether there may be something to take."""
        return any(self._taken.values())

    @property
    def has_node(self) -> bool:
        """Whether there is a Node of the given name."""
        return bool(self._current[Kind.NODE])

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Everything that is wrong with objects and files now, without conflicts."""
        groups = [*(p for of_kind in self._problems.values() for p in of_kind.values())]
        groups.append(self._files.problems)
        return tuple(problem for group in groups for problem in group)

    @property
    def serviceless(self) -> int:
        """How many EndpointSlices in files name no Service."""
        return self._files.serviceless

    def conflicts(self) -> list[Problem]:
        """Return a problem for each object in a file that another file holds before it."""
        return self._files.conflicts()

    def source_file(self, service: ObjectName) -> str:
        """Return the file a Service is in, fit for a message; "" where it is in none."""
        return self._files.holder(ObjectKey(Kind.SERVICE, service))

    def _differences(self, kind: Kind) -> dict[ObjectName, Any]:
        """Return a kind's new values by name, None for what is gone."""
        taken, current = self._taken[kind], self._current[kind]
        if not taken:
            return {}
        self._taken[kind] = {}
        # What changed and changed back makes no difference.
        return {
            name: current.get(name)
            for name, before in sorted(taken.items())
            if current.get(name) != before
        }

    # --- from an API server ----------------------------------------------------------------

    def put(self, kind: Kind, data: Data) -> CacheChange:
        """Take the new version of an object, as JSON."""
        decoded = decode(kind, data)
        name = decoded.name
        if kind is Kind.NODE and name is not None and name.name != self._node_name:
            return CacheChange(kind, name)
        if kind in self._unlisted:
            self._unlisted[kind].discard(name)  # also an unusable version shows that it exists
        problems = decoded.problems
        if problems or name in self._problems[kind]:
            problems = self._replace_problems(kind, name, problems)
        changed = is_another = False
        if name is not None and decoded.usable:
            before, value = self._current[kind].get(name), decoded.value
            is_another = kind not in self._unlisted and _is_another(value, before)
            changed = self._set(kind, name, value)
            if changed and kind is Kind.ENDPOINT_SLICE:
                self._note_trigger(value, before, decoded.triggered_s)
        version = decoded.version
        return CacheChange(kind, name, changed, problems, decoded.usable, version, is_another)

    def remove(self, kind: Kind, data: Data) -> CacheChange:
        """Take it that an object is gone; `data` is its last version, as JSON."""
        name = identify(data).object_name(kind)
        return CacheChange(kind, None) if name is None else self._remove(kind, name)

    def begin_list(self, kind: Kind) -> None:
        """
        Expect a `put` of each object of a kind that exists, and then `end_list`.

        Ends a list that is under way. One that breaks off changes nothing by being incomplete.
        """
        self._unlisted[kind] = {*self._current[kind], *self._problems[kind]}

    def end_list(self, kind: Kind) -> list[CacheChange]:
        """Take it that the list is complete: what it did not hold is gone. Return what that was."""
        unlisted = self._unlisted.pop(kind, set())
        if None in unlisted:
            self._problems[kind].pop(None, None)
        return [self._remove(kind, name) for name in unlisted if name is not None]

    def _remove(self, kind: Kind, name: ObjectName) -> CacheChange:
        self._problems[kind].pop(name, None)
        before = self._current[kind].get(name)
        changed = self._set(kind, name, None)
        self._node_was_removed |= kind is Kind.NODE
        if changed and kind is Kind.ENDPOINT_SLICE:
            self._note_trigger(None, before, None)
        return CacheChange(kind, name, changed)

    def _replace_problems(
        self, kind: Kind, name: ObjectName | None, problems: tuple[Problem, ...]
    ) -> tuple[Problem, ...]:
        """Remember what is wrong with an object; return what was not wrong with it before."""
        of_kind = self._problems[kind]
        known = of_kind.get(name, ())
        if problems:
            of_kind[name] = problems
        elif known:
            del of_kind[name]
        return tuple(problem for problem in problems if problem not in known)

    def _note_trigger(self, now: Any, before: Any, triggered_s: float | None) -> None:
        """
        Remember when the control plane began a change of endpoints.

        A slice that goes takes its Service's times along, as in kube-proxy: they may be of
        endpoints that are not programmed any more.
        """
        if now is None:
            self._triggers.pop(before.service, None)
        elif triggered_s is not None and triggered_s > self._started_s:
            times = self._triggers.setdefault(now.service, [])
            if len(times) < _MAX_TRIGGERS:
                times.append((now.family, triggered_s))

    # --- from manifests --------------------------------------------------------------------

    def objects_in(self, path: str) -> dict[ObjectKey, Value | None] | None:
        """Return the objects that a file holds, None for a file that is not known."""
        return self._files.objects_in(path)

    def replace_file(self, path: str, content: FileContent) -> None:
        """Take what a file holds now, as :meth:`HeldFiles.replace` does."""
        for key, value in self._files.replace(path, content).items():
            self._set(key.kind, key.name, value)

    def remove_file(self, path: str) -> None:
        """Take it that a file is gone, and with it what it held."""
        for key, value in self._files.remove(path).items():
            self._set(key.kind, key.name, value)

    # --- from either -----------------------------------------------------------------------

    def _set(self, kind: Kind, name: ObjectName, now: Value | None) -> bool:
        """Put a version in place of the one before (None: gone); return whether it differs."""
        current = self._current[kind]
        before = current.get(name)
        if before is now or before == now:
            return False
        self._taken[kind].setdefault(name, before)
        if now is None:
            del current[name]
            return True
        if before is not None:
            share_equal_fields(now, before)
        current[name] = now
        return True


def _is_another(now: Value | None, before: Value | None) -> bool:
    """Return whether two objects of one name have different uids."""
    if now is None or before is None or not before.uid_tag or not now.uid_tag:
        return False
    return now.uid_tag != before.uid_tag
