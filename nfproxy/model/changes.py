"""
A batch of changed objects, and what is wrong with an object.

Every source of objects (manifest files, an API server) gives these, so the rest of nfproxy does not
depend on where objects come from.
"""

from __future__ import annotations

import msgspec

from nfproxy.model.addresses import Family
from nfproxy.model.endpoints import EndpointSlice
from nfproxy.model.node import Node, ServiceCIDR
from nfproxy.model.service import ObjectName, Service

#: The family of an EndpointSlice, and when its change began, in Unix seconds.
Trigger = tuple[Family, float]


class Changes(msgspec.Struct, frozen=True):
    """
    Objects that appeared or changed (the new value) or are gone (None).

    A Service that nfproxy must not proxy (headless, ExternalName, another service-proxy-name …)
    counts as gone. `node` is this node's Node, None where it did not change. `node_gone` says that
    the Node was deleted; what it last said stays in use. `triggers` are the times at which the
    control plane began the batch's changes of EndpointSlices, by Service, one for each change
    (annotation ``endpoints.kubernetes.io/last-change-trigger-time``). Only an API server sends
    them.
    """

    services: dict[ObjectName, Service | None] = {}
    slices: dict[ObjectName, EndpointSlice | None] = {}
    service_cidrs: dict[str, ServiceCIDR | None] = {}
    node: Node | None = None
    node_gone: bool = False
    triggers: dict[ObjectName, tuple[Trigger, ...]] = {}

    def __bool__(self) -> bool:
        """Return whether anything changed."""
        return bool(
            self.services or self.slices or self.service_cidrs or self.node or self.node_gone
        )


class Problem(msgspec.Struct, frozen=True, order=True):
    """
    Something wrong with one object, file or field, for a person to read.

    It has the parts of a :class:`~nfproxy.errors.NfproxyError`, and says where. `source_file` is
    the manifest file, "" with an API server. `subject` is the object (``Service default/web``),
    server or request, `field` a path such as ``spec.ports[0].port``; both may be "". `what` says
    what is wrong, `remedy` what to do, "" where nothing is known to help. `kind` is the kind of the
    subject, by which problems are counted: ``Service``, ``API`` for a server, "" for a file.
    """

    source_file: str
    subject: str
    field: str
    what: str
    remedy: str = ""
    kind: str = ""

    def __str__(self) -> str:
        """Return one line: ``source_file: subject: field: what; remedy``."""
        place = (part for part in (self.source_file, self.subject, self.field) if part)
        line = ": ".join((*place, self.what))
        return f"{line}; {self.remedy}" if self.remedy else line
