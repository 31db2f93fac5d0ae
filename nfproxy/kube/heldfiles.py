"""Manifest files: what each holds, and which of them counts for an object that several hold."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from nfproxy.kube.decode import Value
from nfproxy.kube.identity import Kind
from nfproxy.model.changes import Problem
from nfproxy.model.service import ObjectName
from nfproxy.text import plural, shown_path


class ObjectKey(NamedTuple):
    """An object's identity: two objects with one key are two versions of one object."""

    kind: Kind
    name: ObjectName

    def __str__(self) -> str:
        """Return what messages call it, e.g. ``Service default/web``."""
        path = str(self.name) if self.kind.namespaced else self.name.name
        return f"{self.kind.word} {path}"


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


class HeldFiles:
    """
    The last good version of each object of each file.

    Where several files hold an object, the first of them in path order has it, so the order of
    reading does not matter. No method raises for bad input.
    """

    def __init__(self) -> None:
        """Start without a file."""
        self._files: dict[str, _File] = {}
        self._holders: dict[ObjectKey, tuple[str, ...]] = {}
        self._contested: set[ObjectKey] = set()

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Everything that is wrong with files and their objects now, without conflicts."""
        return tuple(problem for file in self._files.values() for problem in file.problems)

    @property
    def serviceless(self) -> int:
        """How many EndpointSlices name no Service."""
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

    def holder(self, key: ObjectKey) -> str:
        """Return the file an object is in, fit for a message; "" where it is in none."""
        holders = self._holders.get(key)
        return shown_path(holders[0]) if holders else ""

    def objects_in(self, path: str) -> dict[ObjectKey, Value | None] | None:
        """Return the objects that a file holds, None for a file that is not known."""
        file = self._files.get(path)
        return file.objects if file else None

    def replace(self, path: str, content: FileContent) -> dict[ObjectKey, Value | None]:
        """
        Take what a file holds now; return of all that may have changed what counts now.

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
        return self._changed(path, old.objects if old else {}, objects)

    def remove(self, path: str) -> dict[ObjectKey, Value | None]:
        """Take it that a file is gone; return as :meth:`replace` does."""
        old = self._files.pop(path, None)
        return self._changed(path, old.objects if old else {}, {})

    def _changed(
        self, path: str, old: dict[ObjectKey, Value | None], new: dict[ObjectKey, Value | None]
    ) -> dict[ObjectKey, Value | None]:
        """Register that a file holds other objects than before; return as :meth:`replace` does."""
        for key in old.keys() - new.keys():
            self._set_holders(key, tuple(p for p in self._holders[key] if p != path))
        for key in new.keys() - old.keys():
            self._set_holders(key, tuple(sorted((*self._holders.get(key, ()), path))))
        # The first holder may have changed, also for an object that stays in this file.
        return {key: self._counting(key) for key in old.keys() | new.keys()}

    def _counting(self, key: ObjectKey) -> Value | None:
        holders = self._holders.get(key)
        return self._files[holders[0]].objects[key] if holders else None

    def _set_holders(self, key: ObjectKey, holders: tuple[str, ...]) -> None:
        if holders:
            self._holders[key] = holders
        else:
            del self._holders[key]
        if len(holders) > 1:
            self._contested.add(key)
        else:
            self._contested.discard(key)


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
