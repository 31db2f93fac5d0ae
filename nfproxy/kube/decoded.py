"""The result of decoding one object: a value of the model, and the problems found on the way."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Generic, TypeVar

import msgspec

from nfproxy.errors import InputError
from nfproxy.kube import identity, wire
from nfproxy.kube.identity import DEFAULT_NAMESPACE, Kind
from nfproxy.model.changes import Problem
from nfproxy.model.service import ObjectName

T_co = TypeVar("T_co", covariant=True)


class Decoded(msgspec.Struct, Generic[T_co]):
    """
    One object, decoded.

    `value` is None for an object that has no part in proxying, and for one that is not `usable`: a
    version that cannot be understood, so the cache keeps the version before. `name` is None where
    the object has no valid name; its namespace is "" for kinds without one. Every object may have
    `problems`. `triggered_s` is when the control plane began the change that led to this version of
    an EndpointSlice, in Unix seconds; None where the object does not say. `has_no_service` is true
    for an EndpointSlice that names no Service. `version` is the resourceVersion, "" for none.
    """

    name: ObjectName | None
    value: T_co | None
    problems: tuple[Problem, ...] = ()
    usable: bool = True
    triggered_s: float | None = None
    has_no_service: bool = False
    version: str = ""


T = TypeVar("T")


@lru_cache(4096)
def shared(ports: T) -> T:
    """Return the one value that stands for all equal ones: many Services have the same ports."""
    return ports


def uid_tag(metadata: wire.Metadata) -> int:
    """
    Return a number by which objects of one name differ, 0 where there is no uid.

    It has one byte: such numbers take no memory, and two uids have the same once in 255 times.
    """
    uid = metadata.uid
    return hash(uid) % 255 + 1 if uid and isinstance(uid, str) else 0


MAX_PROBLEMS = 20  # reported of one object


class Problems:
    """Collects the problems of one object while it is being decoded: nearly always none."""

    __slots__ = ("_kind", "_metadata", "_more", "_problems", "_source_file")

    def __init__(self, source_file: str, kind: Kind, metadata: wire.Metadata) -> None:
        self._source_file = source_file
        self._kind = kind
        self._metadata = metadata
        self._problems: tuple[Problem, ...] = ()
        self._more = 0

    def add(self, field: str, message: object) -> None:
        """Add what is wrong with a field; an exception stands for its message."""
        if len(self._problems) < MAX_PROBLEMS:
            self._problems += (self._problem(field, str(message)),)
        else:
            self._more += 1

    @property
    def found(self) -> tuple[Problem, ...]:
        """The problems so far, in order; beyond `MAX_PROBLEMS`, their number."""
        if not self._more:
            return self._problems
        return (*self._problems, self._problem("", f"and {self._more} more problems"))

    def _problem(self, field: str, what: str) -> Problem:
        subject = identity.subject(self._kind, self._metadata.namespace, self._metadata.name)
        return Problem(self._source_file, subject, field, what, kind=self._kind.word)


def namespaced_name(
    metadata: wire.Metadata, check: Callable[[str], str], problems: Problems
) -> ObjectName | None:
    """Return an object's checked name; None, and a problem, where the API would refuse it."""
    field = "metadata.namespace"
    try:
        namespace = _namespace(metadata.namespace or DEFAULT_NAMESPACE)
        field = "metadata.name"
        return ObjectName(namespace, check(metadata.name))
    except InputError as error:
        problems.add(field, error)
        return None


@lru_cache(4096)
def _namespace(text: str) -> str:
    """Return the name of a namespace, one text for all its objects. Raises InputError."""
    return sys.intern(identity.label(text))


def cluster_scoped_name(metadata: wire.Metadata, problems: Problems) -> ObjectName | None:
    """Return the checked name of an object without namespace; else None, and a problem."""
    try:
        return ObjectName("", identity.subdomain(metadata.name))
    except InputError as error:
        problems.add("metadata.name", error)
        return None
