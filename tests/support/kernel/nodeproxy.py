"""
nfproxy on a node of the lab, without its process: objects in, real kernel tables out.

The same planner, reconciler and kernel that ``nfproxy run`` puts together.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Self

from support.kernel import rules
from support.objects.model import changes

from nfproxy.dataplane.kernel import Kernel
from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.model.changes import Changes
from nfproxy.model.endpoints import EndpointSlice
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.model.service import Service
from nfproxy.nft.schema import TABLE
from nfproxy.plan.planner import Planner
from nfproxy.reconcile.reconciler import Reconciler
from nfproxy.reconcile.script import script
from nfproxy.reconcile.syncreport import Report
from nfproxy.tools.lab import Host


class NodeProxy:
    """
    Programs the tables of one lab host.

    >>> with NodeProxy(cluster.nodes[0], NodeConfig(node_name="node-1")) as proxy:
    ...     proxy.apply(changes(service(), endpoint_slice("web", "10.244.1.11")))
    """

    def __init__(
        self,
        host: Host,
        config: NodeConfig,
        objects: Sequence[Service | EndpointSlice] = (),
        families: Sequence[Family] = FAMILIES,
    ) -> None:
        """Program a host with some objects, to the end. Takes over what its tables hold."""
        self.host = host
        self.planner = Planner(config)
        self.families = families
        self.kernel: Kernel = host.namespace.call(Kernel)
        self.reconciler = Reconciler(
            self.kernel, self.planner.desired, config, families, time.monotonic
        )
        report = self.apply(changes(*objects))
        while report.left:
            report = self.apply(changes())

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the tables and close."""
        self.close()

    def apply(self, batch: Changes) -> Report:
        """Apply changed objects in one synchronisation."""
        touched = self.planner.apply(batch)
        return self.host.namespace.call(self.reconciler.sync, touched)

    def put(self, *objects: Service | EndpointSlice) -> Report:
        """Apply objects that appeared or changed."""
        return self.apply(changes(*objects))

    def reconfigure(self, config: NodeConfig) -> Report:
        """Go over to another node configuration."""
        touched = self.planner.apply(self.planner.reconfigure(config))
        self.reconciler.reconfigure(config)
        return self.host.namespace.call(self.reconciler.sync, touched)

    def tidy(self) -> int:
        """Remove what lingers and is due."""
        return self.host.namespace.call(self.reconciler.tidy)

    def render(self) -> str:
        """Return the desired state as the script that ``nfproxy render`` prints."""
        return script(self.planner.desired, self.planner.config.program, self.families)

    def close(self, *, keep_tables: bool = False) -> None:
        """Close; the tables go, too, unless they are to be kept for a successor."""
        if not keep_tables:
            tables = [f"table {family.table} {TABLE}\n" for family in FAMILIES]
            rules.load(self.host, "".join(f"add {one}delete {one}" for one in tables))
        self.kernel.close()
