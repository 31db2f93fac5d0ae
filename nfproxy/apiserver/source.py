"""The API server as a source."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from nfproxy import __version__
from nfproxy.apiserver.connection import Connection
from nfproxy.apiserver.feed import Feed, Troubles
from nfproxy.apiserver.reflector import Reflector
from nfproxy.apiserver.transport import ApiRequest
from nfproxy.clock import unix_s
from nfproxy.kube.cache import ObjectCache
from nfproxy.kube.identity import Kind
from nfproxy.kube.nodenames import ListedNode, read_node_names
from nfproxy.kube.protocol import WatchTimeouts
from nfproxy.kube.resources import resources
from nfproxy.kube.source import Report
from nfproxy.metrics import Metrics
from nfproxy.model.addresses import FAMILIES
from nfproxy.model.changes import Changes, Problem
from nfproxy.model.service import ObjectName

log = logging.getLogger(__name__)

_NODE_GRACE_S = 30.0  # zone and addresses decide policy; kube-proxy waits as long for node IPs
_CIDR_GRACE_S = 1.0  # about unallocated addresses alone

# When their Nodes are missing, every node of a cluster may ask for names at once: metadata alone,
# and of a bounded number of Nodes.
_METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
_LIMIT = "500"
_NAMES_S = 10.0


class ApiServerSource:
    """
    Services, EndpointSlices, ServiceCIDRs and this node's Node from an API server.

    While the API server is away, the objects stay as they were. Problems of objects and of the
    connection are given to `report` once when they arise. Use from the event loop, within
    ``async with``. Implements :class:`~nfproxy.kube.source.Source`.
    """

    def __init__(
        self,
        connection: Connection,
        node_name: str,
        report: Report,
        metrics: Metrics | None = None,
        *,
        started_s: float | None = None,
        timeouts: WatchTimeouts | None = None,
    ) -> None:
        """
        Prepare; nothing happens before :meth:`load`.

        `started_s` is when this process began, in Unix seconds, by default now.
        """
        self._connection = connection
        metrics = metrics or Metrics(FAMILIES, __version__)  # counted, and not served
        self._timeouts = timeouts
        self._changed = asyncio.Event()
        self._cache = ObjectCache(node_name, unix_s() if started_s is None else started_s)
        self._troubles = Troubles(connection, report)
        self._feeds = {
            one.kind: Feed(
                one,
                self._cache,
                metrics,
                report,
                self._troubles,
                changed=self._changed.set,
                list_again=self._list_again,
            )
            for one in resources(node_name)
        }
        self._reflectors: list[Reflector] = []
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Everything that is wrong now, sorted, each once."""
        return tuple(sorted({*self._cache.problems, *self._troubles.problems}))

    @property
    def node_exists(self) -> bool | None:
        """Whether there is a Node of the given name; None before the API server has answered."""
        return self._cache.has_node if self._feeds[Kind.NODE].listed.is_set() else None

    async def node_names(self) -> tuple[ListedNode, ...]:
        """Return the cluster's first Nodes by name. Raises RequestError."""
        return await list_node_names(self._connection)

    @property
    def trouble(self) -> str:
        """
        Why the API server cannot be followed, "" while it can.

        Fit for pages that anyone may read: details are in the log, and may be secret.
        """
        if self._connection.lacks_credentials:
            return "credentials for the API server cannot be read; the log says why"
        if self._troubles.problems:
            return "the API server cannot be followed; the log says why"
        return ""

    @property
    def heard_at_s(self) -> float | None:
        """When the API server last sent something, by the monotonic clock; None before that."""
        return max((one.heard_at_s for one in self._reflectors if one.heard_at_s), default=None)

    def source_file(self, service: ObjectName) -> str:
        """Return "": objects of an API server are in no file."""
        return ""

    async def load(self) -> Changes:
        """
        Return all objects there are, once Services and EndpointSlices have been listed.

        Waits as long as that takes. The Node is waited for after that for up to 30 s, unless
        it does not exist or may not be read, the ServiceCIDRs for a second. Raises ConfigError if
        the kubeconfig or service account cannot be used.
        """
        feeds = self._feeds
        await self._connection.open()
        if not self._tasks:
            self._reflectors = [
                Reflector(self._connection, feed.resource, feed, self._timeouts)
                for feed in feeds.values()
            ]
            self._tasks = [asyncio.create_task(one.run()) for one in self._reflectors]
        await feeds[Kind.SERVICE].listed.wait()
        await feeds[Kind.ENDPOINT_SLICE].listed.wait()
        await asyncio.gather(
            self._grace(feeds[Kind.NODE], _NODE_GRACE_S),
            self._grace(feeds[Kind.SERVICE_CIDR], _CIDR_GRACE_S),
        )
        await self._connection.locate()
        return self._cache.take()

    def _list_again(self) -> None:
        for reflector in self._reflectors:
            reflector.list_again()

    async def changed(self) -> None:
        """Return when there may be something to take."""
        await self._changed.wait()
        self._changed.clear()  # before `take`: what changes from here on wakes the caller again

    @property
    def take(self) -> Callable[[], Changes]:
        """The function that returns what has changed since its last call, or since `load`."""
        return self._cache.take

    async def aclose(self) -> None:
        """Stop following; idempotent."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def __aenter__(self) -> ApiServerSource:
        """Return the source; what :meth:`load` starts ends with the block."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop following."""
        await self.aclose()

    @staticmethod
    async def _grace(feed: Feed, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await feed.settled.wait()
        except TimeoutError:
            word = feed.resource.kind.word
            log.warning("no %s within %.0f s; going on without", word, seconds)


async def list_node_names(connection: Connection) -> tuple[ListedNode, ...]:
    """Return the first 500 Nodes by name. Raises RequestError."""
    request = ApiRequest(
        "/api/v1/nodes",
        {"limit": _LIMIT},
        accept=_METADATA,
        head_s=_NAMES_S,
        silence_s=_NAMES_S,
    )
    return read_node_names(await connection.read(request))
