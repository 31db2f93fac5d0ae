"""
Which file's version of an object is in force.

Pure state: contents of files in, changes out. The cost of an update is that of the files
updated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nfproxy.kube.decode import Value
from nfproxy.kube.decoded import Kind
from nfproxy.manifests.parsing import Content, Key
from nfproxy.model.changes import Changes, Problem
from nfproxy.model.endpoints import EndpointSlice
from nfproxy.model.node import Node, ServiceCIDR
from nfproxy.model.service import ObjectName, Service
from nfproxy.text import shown

Objects = Mapping[Key, Value | None]


def successor(content: Content, before: Objects | None, was_parsed: bool) -> Objects:
    """
    Return the objects of a file in force after it was read.

    `before` are those in force until now, None for a file that is new. A file that
    does not parse keeps its last good objects, all of them, if it ever parsed
    (`was_parsed`); if not, what could be read of it counts. An object that may be there in
    a version that cannot be used stays in force in its last good one.
    """
    if before is None:
        return content.objects
    if not content.parsed and was_parsed:
        return before
    objects: dict[Key, Value | None] = {}
    for key, value in before.items():
        if key not in content.objects:
            if content.may_hold(key):
                objects[key] = value
        elif value == content.objects[key]:
            # The old one, so that rereading a large file does not move all it says to new memory.
            objects[key] = value
    return {**content.objects, **objects}


class InForce:
    """
    The objects of all files.

    Where several files hold an object, the first of them in path order has it, so the
    order in which files were read does not matter.
    """

    def __init__(self) -> None:
        self._files: dict[str, Objects] = {}
        self._holders: dict[Key, tuple[str, ...]] = {}
        self._contested: set[Key] = set()

    @property
    def paths(self) -> Iterable[str]:
        """The files that hold anything, or are known to hold nothing."""
        return self._files.keys()

    def of_file(self, path: str) -> Objects | None:
        """Return a file's objects, None for a file that is not known."""
        return self._files.get(path)

    def update(self, files: Mapping[str, Objects | None]) -> Changes:
        """Replace what some files hold (None: the file is gone) and return what follows."""
        touched: set[Key] = set()
        for path, objects in files.items():
            touched |= (self._files.get(path) or {}).keys() | (objects or {}).keys()
        before = {key: self._value(key) for key in touched}
        for path, objects in files.items():
            self._replace(path, objects)
        after = {key: self._value(key) for key in touched}
        return as_changes({k: v for k, v in after.items() if v is not before[k] and v != before[k]})

    def conflicts(self) -> list[Problem]:
        """Return a problem for each object that a file holds in vain."""
        return [
            Problem(shown(path), str(key), "", f"is also in {shown(first)}, which counts")
            for key in self._contested
            for first, *others in [self._holders[key]]
            for path in others
        ]

    def source_file(self, service: ObjectName) -> str:
        """Return the file a Service is in, fit for a message; "" for one that is in none."""
        holders = self._holders.get(Key(Kind.SERVICE, service))
        return shown(holders[0]) if holders else ""

    def _value(self, key: Key) -> Value | None:
        """Return an object in force, None where there is none to proxy."""
        holders = self._holders.get(key)
        return self._files[holders[0]][key] if holders else None

    def _replace(self, path: str, objects: Objects | None) -> None:
        """Replace what one file holds."""
        old = self._files.pop(path, None) or {}
        new = objects or {}
        if objects is not None:
            self._files[path] = objects
        for key in old.keys() - new.keys():
            self._hold(key, tuple(p for p in self._holders[key] if p != path))
        for key in new.keys() - old.keys():
            self._hold(key, tuple(sorted((*self._holders.get(key, ()), path))))

    def _hold(self, key: Key, holders: tuple[str, ...]) -> None:
        """Note which files hold an object."""
        if holders:
            self._holders[key] = holders
        else:
            self._holders.pop(key, None)
        if len(holders) > 1:
            self._contested.add(key)
        else:
            self._contested.discard(key)


def as_changes(objects: Objects) -> Changes:
    """Sort objects by kind into a batch of changes; a Node that is gone is not told."""
    services: dict[ObjectName, Service | None] = {}
    slices: dict[ObjectName, EndpointSlice | None] = {}
    cidrs: dict[str, ServiceCIDR | None] = {}
    node: Node | None = None
    for key, value in sorted(objects.items(), key=lambda item: item[0].name):
        if key.kind is Kind.SERVICE:
            services[key.name] = value if isinstance(value, Service) else None
        elif key.kind is Kind.ENDPOINT_SLICE:
            slices[key.name] = value if isinstance(value, EndpointSlice) else None
        elif key.kind is Kind.SERVICE_CIDR:
            cidrs[key.name.name] = value if isinstance(value, ServiceCIDR) else None
        elif isinstance(value, Node):
            node = value
    return Changes(services=services, slices=slices, service_cidrs=cidrs, node=node)
