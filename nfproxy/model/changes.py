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
    Something wrong with one object, file or field, to be shown to a person.

    `source_file` is the file (or "" for an API server), `subject` e.g. ``Service
    default/web`` or "", `field` a path such as ``spec.ports[0].port`` or "".
    """

    source_file: str
    subject: str
    field: str
    message: str

    def __str__(self) -> str:
        """Return one line: ``source_file: subject: field: message``."""
        return ": ".join(part for part in (self.source_file, self.subject, self.field) if part) + (
            f": {self.message}" if self.source_file or self.subject or self.field else self.message
        )
