"""
The latest good version of every object, and what of that has not been passed on.

One cache serves both sources of objects. An API server puts and removes single objects and lists
a kind as a whole; manifests replace what one file holds. Either way :meth:`ObjectCache.take` gives
differences: between what its reader took last and what is there now, however that came about.

The cache shares its values with what it gives out: an object exists once in memory, here and in
the planner.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from nfproxy.kube.decode import Data, Value, decode
from nfproxy.kube.identity import Kind, identify
from nfproxy.model.changes import Changes, Problem, Trigger
from nfproxy.model.service import ObjectName
from nfproxy.model.sharing import share_equal_fields
from nfproxy.text import plural, shown_path

_MAX_TRIGGERS = 1000  # kept for one Service until the next `take`


class ObjectKey(NamedTuple):
    """An object's identity: two objects with one key are two versions of one object."""

    kind: Kind
    name: ObjectName

    def __str__(self) -> str:
        """Return what messages call it, e.g. ``Service default/web``."""
        path = str(self.name) if self.kind.namespaced else self.name.name
        return f"{self.kind.word} {path}"


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


class UnusableObject(NamedTuple):
    """An object in a file that cannot be used; `kind` is None where even that is unclear."""

    kind: Kind | None
    namespace: str
    name: str

    def may_be(self, key: ObjectKey) -> bool:
        """Return whether this may be a new, broken version of an object."""
        return (
            self.kind in (None, key.kind)
            and self.name == key.name.name
            and key.name.namespace in ("", self.namespace)
        )


class FileContent(msgspec.Struct, frozen=True):
    """
    What one manifest file says.

    `objects` maps an object that has no part in proxying to None. `parsed` is false when the file's
    text, or a part of it, could not be read. `has_nameless` is true when the file holds an object
    that cannot be used and has no name, so that it may be a new version of any object.
    `serviceless` counts the EndpointSlices that name no Service.
    """

    objects: dict[ObjectKey, Value | None] = {}
    problems: tuple[Problem, ...] = ()
    parsed: bool = True
    unusable: frozenset[UnusableObject] = frozenset()
    has_nameless: bool = False
    serviceless: int = 0

    @property
    def is_unusable(self) -> bool:
        """Whether the file cannot be read, or holds objects of which none can be used."""
        return not self.parsed or (not self.objects and (self.has_nameless or bool(self.unusable)))

    def may_hold(self, key: ObjectKey) -> bool:
        """Return whether an object that is not among `objects` may still be in the file."""
        return not self.parsed or self.has_nameless or any(u.may_be(key) for u in self.unusable)


class _File(msgspec.Struct):
    """What a file holds; `has_parsed` is true once one of its versions parsed as a whole."""

    objects: dict[ObjectKey, Value | None]
    problems: tuple[Problem, ...]
    has_parsed: bool
    serviceless: int = 0


class ObjectCache:
    """
    The latest good version of each Service, EndpointSlice, ServiceCIDR and this node's Node.

    An object whose new version cannot be used keeps its last good one, if it had any. Where several
    files hold an object, the first of them in path order has it, so the order of reading does not
    matter. No method raises for bad input. The cost of a call is that of the objects it is about.

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
        self._files: dict[str, _File] = {}
        self._holders: dict[ObjectKey, tuple[str, ...]] = {}
        self._contested: set[ObjectKey] = set()

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
        groups += [file.problems for file in self._files.values()]
        return tuple(problem for group in groups for problem in group)

    @property
    def serviceless(self) -> int:
        """How many EndpointSlices in files name no Service."""
        return sum(file.serviceless for file in self._files.values())

    def conflicts(self) -> list[Problem]:
        """Return a problem for each object in a file that another file holds before it."""
        return [
            Problem(
                shown_path(path),
                str(key),
                "",
                f"is also in {shown_path(first)}, which counts",
                kind=key.kind.word,
            )
            for key in self._contested
            for first, *others in [self._holders[key]]
            for path in others
        ]

    def source_file(self, service: ObjectName) -> str:
        """Return the file a Service is in, fit for a message; "" where it is in none."""
        holders = self._holders.get(ObjectKey(Kind.SERVICE, service))
        return shown_path(holders[0]) if holders else ""

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
        file = self._files.get(path)
        return file.objects if file else None

    def replace_file(self, path: str, content: FileContent) -> None:
        """
        Take what a file holds now.

        A version that does not parse leaves the objects of the last good one, all of them; if no
        version ever parsed, what could be read of it counts. An object that may be in the file in a
        version that cannot be used keeps its last good one. A problem of the file says how many
        objects stay.
        """
        old = self._files.get(path)
        has_parsed = content.parsed or (old is not None and old.has_parsed)
        objects, stay = _merged(content, old)
        problems = content.problems
        if stay:
            what = f"{plural(stay, 'object')} of the last good version in use"
            problems += (Problem(shown_path(path), "", "", what),)
        self._files[path] = _File(objects, problems, has_parsed, content.serviceless)
        self._change_holder(path, old.objects if old else {}, objects)

    def remove_file(self, path: str) -> None:
        """Take it that a file is gone, and with it what it held."""
        old = self._files.pop(path, None)
        if old is not None:
            self._change_holder(path, old.objects, {})

    def _change_holder(
        self, path: str, old: dict[ObjectKey, Value | None], new: dict[ObjectKey, Value | None]
    ) -> None:
        """Register that a file holds other objects than before."""
        for key in old.keys() - new.keys():
            self._set_holders(key, tuple(p for p in self._holders[key] if p != path))
        for key in new.keys() - old.keys():
            self._set_holders(key, tuple(sorted((*self._holders.get(key, ()), path))))
        # The first holder may have changed, also for an object that stays in this file.
        for key in old.keys() | new.keys():
            holders = self._holders.get(key)
            self._set(key.kind, key.name, self._files[holders[0]].objects[key] if holders else None)

    def _set_holders(self, key: ObjectKey, holders: tuple[str, ...]) -> None:
        if holders:
            self._holders[key] = holders
        else:
            del self._holders[key]
        if len(holders) > 1:
            self._contested.add(key)
        else:
            self._contested.discard(key)

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


def _merged(content: FileContent, old: _File | None) -> tuple[dict[ObjectKey, Value | None], int]:
    """Return the objects of a file after it was read, and how many of an earlier version stay."""
    if old is None:
        return content.objects, 0
    if not content.parsed and old.has_parsed:
        return old.objects, len(old.objects)
    objects = dict(content.objects)
    stay = 0
    for key, value in old.objects.items():
        if key not in objects:
            if content.may_hold(key):
                objects[key] = value
                stay += 1
        elif value == objects[key]:
            # The old one, so that reading a large file again does not move it all to new memory.
            objects[key] = value
    return objects, stay
