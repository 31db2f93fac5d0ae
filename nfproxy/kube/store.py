"""
What an API server has told of one kind of object, and what of that has not been passed on.

A store takes objects as they arrive, in a list or in a watch, and gives differences: between
what its reader was last told and what holds now, however it came about. A list that breaks off
changes nothing by being incomplete; only a whole one tells what is gone.
"""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from nfproxy.kube.decode import Decoded
from nfproxy.model.changes import Problem
from nfproxy.model.service import ObjectName

V = TypeVar("V")


class Outcome(msgspec.Struct, Generic[V], frozen=True):
    """
    What an object told: the value before, the one now, and problems that are new.

    Equal values mean that nothing nfproxy reads has changed.
    """

    before: V | None
    now: V | None
    problems: tuple[Problem, ...] = ()

    @property
    def changed(self) -> bool:
        """Tell whether the object differs from what was known."""
        return self.before != self.now


class Store(Generic[V]):
    """
    The latest usable version of each object of one kind.

    An object whose new version cannot be used keeps its last good one, if it had any. Names
    are those of :class:`~nfproxy.kube.decode.Decoded`.
    """

    def __init__(self) -> None:
        self._values: dict[ObjectName, V] = {}
        self._told: dict[ObjectName, V | None] = {}  # of what may differ from what was told
        self._problems: dict[ObjectName | None, tuple[Problem, ...]] = {}
        self._unseen: set[ObjectName | None] | None = None  # while a list is under way

    def __len__(self) -> int:
        """Return the number of objects that hold."""
        return len(self._values)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Return everything that is wrong with objects now."""
        return tuple(problem for problems in self._problems.values() for problem in problems)

    def put(self, decoded: Decoded[V]) -> Outcome[V]:
        """Take the new version of an object."""
        name = decoded.name
        if self._unseen is not None:
            self._unseen.discard(name)
        problems = self._note(name, decoded.problems)
        if name is None:
            return Outcome(None, None, problems)
        before = self._values.get(name)
        now = decoded.value if decoded.usable else before
        self._set(name, before, now)
        return Outcome(before, now, problems)

    def remove(self, name: ObjectName) -> Outcome[V]:
        """Take it that an object is gone."""
        self._problems.pop(name, None)
        before = self._values.get(name)
        self._set(name, before, None)
        return Outcome(before, None)

    def begin_list(self) -> None:
        """From here on everything there is will be told again; ends any list under way."""
        self._unseen = {*self._values, *self._problems}

    def end_list(self) -> list[Outcome[V]]:
        """The list is complete: what it did not hold is gone. Return what that was."""
        unseen, self._unseen = self._unseen or set(), None
        if None in unseen:
            self._problems.pop(None, None)
        return [self.remove(name) for name in unseen if name is not None]

    def take(self) -> dict[ObjectName, V | None]:
        """Return what differs from all that was taken before: new values, None for what went."""
        told, self._told = self._told, {}
        changes: dict[ObjectName, V | None] = {}
        for name, before in told.items():
            now = self._values.get(name)
            if now != before:
                changes[name] = now
        return changes

    def _set(self, name: ObjectName, before: V | None, now: V | None) -> None:
        if before == now:
            return
        self._told.setdefault(name, before)
        if now is None:
            del self._values[name]
        else:
            self._values[name] = now

    def _note(self, name: ObjectName | None, problems: tuple[Problem, ...]) -> tuple[Problem, ...]:
        """Remember what is wrong with an object, and return what was not wrong with it before."""
        known = self._problems.get(name, ())
        if problems:
            self._problems[name] = problems
        elif known:
            del self._problems[name]
        return tuple(problem for problem in problems if problem not in known)
