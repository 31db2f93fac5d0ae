"""A namespace with nfproxy's table, and the foreign changes reported in it."""

import select
from unittest import mock

from nfproxy.dataplane import kernel
from nfproxy.dataplane.kernel import Kernel
from nfproxy.dataplane.notifications import ForeignChange, ForeignChanges
from nfproxy.model.addresses import Family
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.nft import ruleset, schema
from nfproxy.reconcile.transition import Operation
from nfproxy.tools.lab import Namespace

PROGRAM = ruleset.program_text(NodeConfig(node_name="node-1").program, Family.IPV4, ())


ELEMENT = Operation(True, Family.IPV4, schema.CLUSTER_IPS, bytes((10, 96, 0, 1)))


class Watched:
    """A namespace with nfproxy's table, and the foreign changes reported in it."""

    def __init__(self, namespace: Namespace) -> None:
        self.namespace = namespace
        self.kernel: Kernel = namespace.call(Kernel)
        self.foreign: ForeignChanges = namespace.call(self.kernel.foreign_changes)
        self.load(PROGRAM)

    def load(self, text: str) -> None:
        """Load text as the daemon does."""
        self.namespace.call(self.kernel.load, text)

    def rest(self) -> None:
        """Let the child end that waits for another script."""
        with mock.patch.object(kernel, "_LOADER_IDLE_S", 0.0):
            self.kernel.rest()

    def nft(self, text: str) -> None:
        """Load text as an administrator does."""
        self.namespace.run(["nft", "-f", "-"], input=text)

    def change(self) -> ForeignChange | None:
        """Return what was reported; notifications are there when a commit has returned."""
        found: ForeignChange | None = None
        while select.select([self.foreign], [], [], 0)[0]:
            later = self.foreign.read()
            found = found.followed_by(later) if found and later else later or found
        return found

    def reported(self) -> str:
        """Return the text of what was reported, "" for nothing."""
        found = self.change()
        return found.text if found else ""
