"""
Node ports on loopback addresses: listeners that pass TCP connections on to endpoints (KEP-6032).

Each connection goes to one endpoint, drawn at random. If that does not answer within 5 s, the
client's connection is closed: no other endpoint is tried. Choice and data are kube-proxy's; bounds
are ours. No client costs more than its connection: a fixed number of connections, and buffers of
fixed size. Peers that vanish without a word are found by keepalive.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import logging
import os
import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from nfproxy.clock import monotonic_s
from nfproxy.errors import reason_of
from nfproxy.model.addresses import FAMILIES, Family, format_address, parse_address
from nfproxy.model.service import Protocol
from nfproxy.plan.localnodeports import ListenerChanges, LocalNodePort, LocalPort, Target
from nfproxy.servers.accepting import Acceptor
from nfproxy.servers.endpointchoice import EndpointChoice
from nfproxy.servers.listening import (
    bind_datagrams,
    listen_in_family,
    share_of_files,
    why_not,
)
from nfproxy.servers.udpproxy import UDPFlows, UDPPort

log = logging.getLogger(__name__)

#: Of all listeners together, and of one: a busy Service leaves room for others.
_CONNECTIONS, _CONNECTIONS_EACH = 512, 256

#: Of the files that may be open, listeners take at most one of so many, and connections another;
#: each of those takes two.
_SHARE_OF_FILES = 4

#: Listeners of earlier syncs that a sync tries again.
_AT_ONCE = 20

#: What one direction of a connection holds in this process, and in each buffer of the kernel.
_CHUNK, _BUFFER = 16 << 10, 64 << 10

_DIAL_S = 5.0

#: Go's defaults for connections: seconds until the first probe and between probes, and how many.
_KEEPALIVE_S, _KEEPALIVE_PROBES = 15, 9

#: At most one line in this time about connections that are refused at the limit.
_REPORT_S = 60.0

#: SO_LINGER: closing sends a reset.
_RESET = struct.pack("ii", 1, 0)

_LOOPBACK = {Family.IPV4: parse_address("127.0.0.1"), Family.IPV6: parse_address("::1")}


class LocalNodePortServers:
    """
    The listeners of all node ports, and the connections that they pass on.

    Sockets are opened in the network namespace of the calling thread. Belongs to the event loop;
    `update` and `retry` do not block.
    """

    def __init__(
        self,
        failed: Callable[[Family], None] = lambda _: None,
        clock: Callable[[], float] = monotonic_s,
    ) -> None:
        """Listen nowhere yet. `failed` is called for each attempt to listen that fails."""
        self._failed = failed
        self._clock = clock
        self._listeners: dict[LocalPort, _OpenPort | UDPPort] = {}
        self._failures: dict[LocalPort, str] = {}
        self._unopened: dict[LocalPort, LocalNodePort] = {}  # the last that was tried is the last
        self._most = share_of_files(_SHARE_OF_FILES)
        self._connections = _Conversations(clock)
        self._flows = UDPFlows(clock)

    @property
    def listeners(self) -> Mapping[Family, int]:
        """How many sockets listen, by family."""
        counts = Counter(place.family for place in self._listeners)
        return {family: counts[family] for family in FAMILIES}

    def update(self, changes: ListenerChanges) -> None:
        """
        Open, close and change listeners, and try again to open a few that could not be opened.

        A listener that goes takes its connections with it. One that stays keeps them, also those to
        endpoints that are gone; over UDP those end.
        """
        for place, wanted in changes.items():
            listener = self._listeners.get(place)
            if listener is not None and wanted is not None and listener.service == wanted.service:
                listener.change(wanted)
                continue
            # The connections of another Service must not outlive its claim to the port.
            if listener is not None:
                self._listeners.pop(place).close()
            if wanted is None:
                self._unopened.pop(place, None)
                self._failures.pop(place, None)
            else:
                self._unopened[place] = wanted
        self._try(dict.fromkeys([*changes, *itertools.islice(self._unopened, _AT_ONCE)]))

    def retry(self) -> None:
        """Try again to listen where that failed."""
        self._try(list(self._unopened))

    def _try(self, places: Iterable[LocalPort]) -> None:
        for place in places:
            wanted = self._unopened.pop(place, None)
            if wanted is None:
                continue
            try:
                self._listeners[place] = self._open(place, wanted)
            except OSError as error:
                self._report(place, wanted, why_not(error))
                self._unopened[place] = wanted
            else:
                self._failures.pop(place, None)

    def _open(self, place: LocalPort, wanted: LocalNodePort) -> _OpenPort | UDPPort:
        address = _LOOPBACK[place.family]
        if len(self._listeners) >= self._most:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        if place.protocol is Protocol.UDP:
            bound = bind_datagrams(place.family, address, place.port)
            return UDPPort(bound, wanted, self._flows, self._clock)
        opened = listen_in_family(place.family, address, place.port)
        _limit_buffers(opened)
        return _OpenPort(opened, wanted, self._connections, self._clock)

    def _report(self, place: LocalPort, wanted: LocalNodePort, why: str) -> None:
        text = (
            f"Service {wanted.service}: node port {place.text} is not served on "
            f"{format_address(_LOOPBACK[place.family])}: {why}"
        )
        if self._failures.get(place) != text:
            log.error("%s; trying again every 30 s", text)
        self._failures[place] = text
        self._failed(place.family)

    async def close(self) -> None:
        """Close all listeners and connections. Idempotent."""
        for listener in self._listeners.values():
            listener.close()
        self._listeners, self._unopened, self._failures = {}, {}, {}
        self._flows.close()
        await self._connections.close()


class _OpenPort:
    """One listening socket: accepts connections, and draws an endpoint for each."""

    def __init__(
        self,
        opened: socket.socket,
        wanted: LocalNodePort,
        connections: _Conversations,
        clock: Callable[[], float],
    ) -> None:
        self._choice = EndpointChoice(wanted, clock)
        self._connections = connections
        self._acceptor = Acceptor(opened, self._accepted)

    @property
    def service(self) -> object:
        """The Service that the node port belongs to."""
        return self._choice.wanted.service

    def change(self, wanted: LocalNodePort) -> None:
        """Take over other endpoints or another timeout, for new connections."""
        self._choice.change(wanted)

    def close(self) -> None:
        """Stop listening, and close all connections of this listener."""
        self._acceptor.close()
        self._connections.cancel(self)

    def _accepted(self, client: socket.socket) -> None:
        if not self._connections.start(self, client, self._choice.draw()):
            _reset(client)


class _Conversations:
    """The connections of all listeners, each a task, and their limits."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._tasks: dict[asyncio.Task[None], tuple[_OpenPort, socket.socket]] = {}
        self._counts: Counter[_OpenPort] = Counter()
        self._reported_at = -_REPORT_S
        self._most = min(_CONNECTIONS, share_of_files(2 * _SHARE_OF_FILES))

    def start(self, listener: _OpenPort, client: socket.socket, target: Target) -> bool:
        """Pass a client's connection on; return False where there is no room for it."""
        if len(self._tasks) >= self._most or self._counts[listener] >= _CONNECTIONS_EACH:
            now_s = self._clock()
            if now_s - self._reported_at >= _REPORT_S:
                self._reported_at = now_s
                log.warning(
                    "node ports on loopback addresses have %d connections, those of Service %s %d: "
                    "closing new ones; connect to the cluster IP instead, which has no such limit",
                    len(self._tasks),
                    listener.service,
                    self._counts[listener],
                )
            return False
        task = asyncio.create_task(_pass_on(client, target))
        self._tasks[task] = listener, client
        self._counts[listener] += 1
        task.add_done_callback(self._ended)
        return True

    def _ended(self, task: asyncio.Task[None]) -> None:
        listener, client = self._tasks.pop(task)
        client.close()  # a task that was cancelled before it began has not done so
        self._counts[listener] -= 1
        if not self._counts[listener]:
            del self._counts[listener]

    def cancel(self, listener: _OpenPort) -> None:
        """End the connections of a listener."""
        if listener in self._counts:
            for task, (owner, _) in self._tasks.items():
                if owner is listener:
                    task.cancel()

    async def close(self) -> None:
        """End all connections, and wait until they have ended."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pass_on(client: socket.socket, target: Target) -> None:
    """Connect to an endpoint, and copy both ways until both sides have ended."""
    is_broken = False
    with client, contextlib.ExitStack() as opened:
        loop = asyncio.get_running_loop()
        try:
            endpoint = opened.enter_context(_endpoint_socket(target))
            async with asyncio.timeout(_DIAL_S):
                await loop.sock_connect(endpoint, tuple(target))
        except OSError as error:  # TimeoutError among them
            log.debug("cannot connect to endpoint %s port %d: %s", *target, reason_of(error))
            return
        for each in (client, endpoint):
            _keep_alive(each)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_copy(loop, client, endpoint))
                both.create_task(_copy(loop, endpoint, client))
        except* OSError:
            is_broken = True
        if is_broken:  # one side sent a reset: pass it on
            for each in (client, endpoint):
                _reset(each)


def _endpoint_socket(target: Target) -> socket.socket:
    family = socket.AF_INET6 if ":" in target.address else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    _limit_buffers(opened)
    return opened


async def _copy(
    loop: asyncio.AbstractEventLoop, sender: socket.socket, receiver: socket.socket
) -> None:
    """Copy what comes from one side until it ends, then say so to the other (half-close)."""
    while data := await loop.sock_recv(sender, _CHUNK):
        await loop.sock_sendall(receiver, data)
    with contextlib.suppress(OSError):  # the other side has closed the whole connection
        receiver.shutdown(socket.SHUT_WR)


def _limit_buffers(opened: socket.socket) -> None:
    """Fix the sizes of the kernel's buffers; accepted sockets have those of their listener."""
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        opened.setsockopt(socket.SOL_SOCKET, option, _BUFFER)


def _keep_alive(opened: socket.socket) -> None:
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        (socket.TCP_NODELAY, 1),
        (socket.TCP_KEEPIDLE, _KEEPALIVE_S),
        (socket.TCP_KEEPINTVL, _KEEPALIVE_S),
        (socket.TCP_KEEPCNT, _KEEPALIVE_PROBES),
    ):
        opened.setsockopt(socket.IPPROTO_TCP, option, value)


def _reset(opened: socket.socket) -> None:
    """Close a connection with a reset."""
    with contextlib.suppress(OSError):
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    opened.close()
