"""
What decoding gives: a value, and what was wrong on the way.
"""

from __future__ import annotations

import enum
from typing import Generic, TypeVar

import msgspec

from nfproxy.model.changes import Problem
from nfproxy.model.service import ObjectName

T_co = TypeVar("T_co", covariant=True)


class Kind(enum.Enum):
    """A kind of object that nfproxy reads; the value is its ``apiVersion``."""

    SERVICE = "v1", "Service"
    ENDPOINT_SLICE = "discovery.k8s.io/v1", "EndpointSlice"
    NODE = "v1", "Node"
    SERVICE_CIDR = "networking.k8s.io/v1", "ServiceCIDR"

    @property
    def api_version(self) -> str:
        """The ``apiVersion`` that objects of this kind carry."""
        return self.value[0]

    @property
    def word(self) -> str:
        """The API's word, the value of ``kind``."""
        return self.value[1]

    @property
    def namespaced(self) -> bool:
        """Tell whether objects of this kind live in a namespace."""
        return self in (Kind.SERVICE, Kind.ENDPOINT_SLICE)


class Decoded(msgspec.Struct, Generic[T_co], frozen=True):
    """
    One object, decoded.

    `value` is None for an object that has no part in proxying, and for one that is not
    `usable`: what it says cannot be understood, so that whoever holds an earlier version of
    it should go on with that one. `name` is None where not even the name is known; its
    namespace is "" for kinds without one. `problems` may be there in every case.
    `triggered_s` is when the control plane began the change that led to this version of an
    EndpointSlice, in Unix seconds; None where it does not say.
    """

    name: ObjectName | None
    value: T_co | None
    problems: tuple[Problem, ...] = ()
    usable: bool = True
    triggered_s: float | None = None


MAX_PROBLEMS = 20  # told of one object; more help nobody


class Notes:
    """Collects the problems of one object while it is being decoded."""

    def __init__(self, source_file: str, kind: Kind, subject: str) -> None:
        self._source_file = source_file
        self._kind = kind.word
        self._subject = subject
        self._problems: list[Problem] = []
        self._more = 0

    def add(self, field: str, message: object) -> None:
        """Note what is wrong with a field; an exception stands for its message."""
        if len(self._problems) < MAX_PROBLEMS:
            self._problems.append(self._problem(field, str(message)))
        else:
            self._more += 1

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What has been noted so far, in order, and how many were too many."""
        if not self._more:
            return tuple(self._problems)
        return (*self._problems, self._problem("", f"and {self._more} more problems"))

    def _problem(self, field: str, what: str) -> Problem:
        return Problem(self._source_file, self._subject, field, what, kind=self._kind)
