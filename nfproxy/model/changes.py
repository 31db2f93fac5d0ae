"""
What a source of objects tells: a batch of changes.

Every source (manifest files, an API server) speaks in these, so what follows
does not know where objects come from.
"""

from __future__ import annotations

import msgspec

from nfproxy.model.addresses import Family
from nfproxy.model.endpoints import EndpointSlice
from nfproxy.model.node import Node, ServiceCIDR
from nfproxy.model.service import ObjectName, Service


class Changes(msgspec.Struct, frozen=True):
    """
    Objects that appeared or changed (the new value) or went away (None).

    A Service that must not be proxied (headless, ExternalName, foreign
    service-proxy-name …) counts as gone. `node` is this node's own Node object and is None
    where it did not change; of one that goes away the last facts hold, and `node_gone` is true.
    `triggers` holds, by family, when the control plane began the changes of EndpointSlices that
    are in this batch (annotation ``endpoints.kubernetes.io/last-change-trigger-time``), in Unix
    seconds, one for each change; only an API server tells these.
    """

    services: dict[ObjectName, Service | None] = {}
    slices: dict[ObjectName, EndpointSlice | None] = {}
    service_cidrs: dict[str, ServiceCIDR | None] = {}
    node: Node | None = None
    node_gone: bool = False
    triggers: dict[Family, tuple[float, ...]] = {}

    def __bool__(self) -> bool:
        """Tell whether anything changed."""
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
