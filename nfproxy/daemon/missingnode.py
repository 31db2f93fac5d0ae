"""
Says that this node's Node object is missing, for as long as it is.

kube-proxy waits for the Node without a word that an operator would notice, then goes on without it.
nfproxy goes on, too: cluster IPs work. Node ports on the Node's own addresses wait for it, and
``/healthz`` answers 503, so that load balancers avoid a node whose configuration is wrong.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

from nfproxy.clock import monotonic_s
from nfproxy.errors import NfproxyError
from nfproxy.health import Health
from nfproxy.kube.nodenames import ListedNode, missing_node, near_names
from nfproxy.metrics import Metrics

log = logging.getLogger(__name__)

# A kubelet may be about to register its Node, so the first line waits a moment. The second comes
# when kube-proxy would go on without the Node.
_LOOK_EVERY_S, _FIRST_S, _SECOND_S, _REPEAT_S = 1.0, 2.0, 30.0, 300.0

_MISSING = (
    "%s, since %.0f s: node ports on its addresses, zone and local endpoints are unknown, and "
    "/healthz answers 503; %s"
)
_DELETED = (
    "Node %s was deleted %.0f s ago: its last addresses and zone stay in use, and /healthz answers "
    "503; stop nfproxy, or let the kubelet register the Node again"
)


class MissingNode:
    """
    Follows whether the Node is there: log, health and metric. Belongs to the event loop.

    `exists` says what the API server answered last, None before the first answer. `list_names` asks
    it for the Nodes there are, once.
    """

    def __init__(
        self,
        node_name: str,
        host_name: str,
        exists: Callable[[], bool | None],
        list_names: Callable[[], Awaitable[Iterable[ListedNode]]],
        health: Health,
        metrics: Metrics,
    ) -> None:
        """Start with a Node that is expected to be there."""
        self._name = node_name
        self._host_name = host_name
        self._exists = exists
        self._list_names = list_names
        self._health = health
        self._metrics = metrics
        self._near: tuple[str, ...] | None = None  # not asked yet
        self._was_there = False
        self._is_reported = False
        self._since_s: float | None = None
        self._log_at_s = 0.0

    async def run(self) -> None:
        """Look every second; return never."""
        while True:
            await self.look(monotonic_s())
            await asyncio.sleep(_LOOK_EVERY_S)

    async def look(self, now_s: float) -> None:
        """Report the Node as missing if it is and a line is due, or that it is there again."""
        exists = self._exists()
        if exists is not False:
            self._found(now_s)
            self._was_there |= bool(exists)
            return
        if self._since_s is None:
            self._since_s = now_s
            self._log_at_s = now_s + _FIRST_S
        if now_s < self._log_at_s:
            return
        missing_s = now_s - self._since_s
        self._log_at_s = now_s + _REPEAT_S
        if missing_s < _SECOND_S:
            self._log_at_s = self._since_s + _SECOND_S
        self._is_reported = True
        self._metrics.node_missing(True)
        if self._was_there:  # its name was right, and health knows
            log.warning(_DELETED, self._name, missing_s)
            return
        if self._near is None:
            self._near = await self._ask()
        what, remedy = missing_node(self._name, self._near or ())
        log.warning(_MISSING, what, missing_s, remedy)
        self._health.node_missing(what)

    def _found(self, now_s: float) -> None:
        if self._since_s is not None and self._is_reported:
            log.info("Node %s is there after %.0f s", self._name, now_s - self._since_s)
        self._since_s = None
        self._is_reported = False
        self._metrics.node_missing(False)

    async def _ask(self) -> tuple[str, ...] | None:
        """Return the names of Nodes that this may be; None if they cannot be listed now."""
        try:
            nodes = await self._list_names()
        except NfproxyError:
            return None  # the reflectors report what is wrong with the API server
        return near_names(self._name, self._host_name, nodes)
