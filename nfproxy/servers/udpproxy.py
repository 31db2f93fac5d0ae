"""
Node ports on loopback addresses over UDP: passes datagrams of local clients on to endpoints.

KEP-6032 leaves UDP out, so this is off by default. A client's address and port make a flow: it has
one endpoint, drawn at random, and a socket of its own. A flow ends when it was idle for as long as
conntrack would keep it, when its endpoint leaves, and when an ICMP error comes back for it: the
client's next datagram then draws again. The number of flows is bounded: a new one takes the place
of the one that was idle longest.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

from nfproxy.errors import reason_of
from nfproxy.plan.localnodeports import LocalNodePort, Target
from nfproxy.servers.endpointchoice import EndpointChoice

log = logging.getLogger(__name__)

#: Of all listeners together, and of one: a busy Service leaves room for others.
_FLOWS, _FLOWS_EACH = 512, 256

#: How long a flow may be idle: nf_conntrack_udp_timeout, and nf_conntrack_udp_timeout_stream.
_UNANSWERED_S, _ANSWERED_S = 30.0, 120.0
_SWEEP_S = 5.0

#: The longest datagram, how many to pass on before other work, and each buffer of the kernel.
_DATAGRAM, _AT_ONCE, _BUFFER = 65_535, 32, 64 << 10


class _Flow:
    """The datagrams between one client and one endpoint."""

    __slots__ = ("client", "is_answered", "listener", "socket", "target", "used_s")

    def __init__(
        self, listener: UDPPort, client: Any, target: Target, connected: socket.socket
    ) -> None:
        self.listener = listener
        self.client = client
        self.target = target
        self.socket = connected
        self.is_answered = False
        self.used_s = 0.0


class UDPFlows:
    """The flows of all listeners and their limits. Belongs to the event loop."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Begin without a flow."""
        self._clock = clock
        self._idle_longest_first: OrderedDict[_Flow, None] = OrderedDict()
        self._sweep: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """How many flows there are."""
        return len(self._idle_longest_first)

    def added(self, flow: _Flow) -> None:
        """Take a new flow, and end another one if there are too many."""
        if len(self._idle_longest_first) >= _FLOWS:
            oldest = next(iter(self._idle_longest_first))
            oldest.listener.end(oldest)
        self.used(flow)
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(_SWEEP_S, self.sweep)

    def used(self, flow: _Flow) -> None:
        """A datagram of a flow was passed on."""
        flow.used_s = self._clock()
        self._idle_longest_first[flow] = None
        self._idle_longest_first.move_to_end(flow)

    def removed(self, flow: _Flow) -> None:
        """A flow has ended."""
        self._idle_longest_first.pop(flow, None)

    def sweep(self) -> None:
        """End the flows that were idle for too long; again after a while if any are left."""
        now_s = self._clock()
        for flow in list(self._idle_longest_first):
            if now_s - flow.used_s >= (_ANSWERED_S if flow.is_answered else _UNANSWERED_S):
                flow.listener.end(flow)
        if self._sweep is not None:
            self._sweep.cancel()
        self._sweep = None
        if self._idle_longest_first:
            self._sweep = asyncio.get_running_loop().call_later(_SWEEP_S, self.sweep)

    def close(self) -> None:
        """Sweep no more. The listeners have ended their flows."""
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None


class UDPPort:
    """One bound socket: passes datagrams of clients on, and the answers back."""

    def __init__(
        self,
        bound: socket.socket,
        wanted: LocalNodePort,
        flows: UDPFlows,
        clock: Callable[[], float],
    ) -> None:
        """Begin to serve clients at a socket that does not block, and own it."""
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        self._socket = bound
        self._choice = EndpointChoice(wanted, clock)
        self._all = flows
        self._flows: OrderedDict[Any, _Flow] = OrderedDict()  # by client, idle longest first
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(bound, self._from_clients)

    @property
    def service(self) -> object:
        """The Service that the node port belongs to."""
        return self._choice.wanted.service

    def change(self, wanted: LocalNodePort) -> None:
        """Take over other endpoints or another timeout; end the flows of endpoints that left."""
        self._choice.change(wanted)
        targets = frozenset(wanted.targets) if self._flows else ()
        for flow in list(self._flows.values()):
            if flow.target not in targets:
                self.end(flow)

    def close(self) -> None:
        """Stop listening, and end all flows of this listener."""
        self._loop.remove_reader(self._socket)
        for flow in list(self._flows.values()):
            self.end(flow)
        self._socket.close()

    def end(self, flow: _Flow) -> None:
        """End a flow. Its client's next datagram begins another one."""
        del self._flows[flow.client]
        self._all.removed(flow)
        self._loop.remove_reader(flow.socket)
        flow.socket.close()

    def _from_clients(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                data, client = self._socket.recvfrom(_DATAGRAM)
            except OSError:  # nothing is left
                return
            flow = self._flows.get(client) or self._begin(client)
            if flow is not None and not self._send(flow, data):
                # The error is about an earlier datagram, and this one was not sent.
                flow = self._begin(client)
                if flow is not None:
                    self._send(flow, data)

    def _begin(self, client: Any) -> _Flow | None:
        """Return a flow to a newly drawn endpoint; None if it cannot be reached."""
        if len(self._flows) >= _FLOWS_EACH:
            self.end(next(iter(self._flows.values())))
        target = self._choice.draw()
        family = socket.AF_INET6 if ":" in target.address else socket.AF_INET
        try:
            opened = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        except OSError as error:
            log.debug("no socket for endpoint %s port %d: %s", *target, reason_of(error))
            return None
        try:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            opened.connect(tuple(target))
        except OSError as error:
            opened.close()
            log.debug("cannot reach endpoint %s port %d: %s", *target, reason_of(error))
            return None
        flow = _Flow(self, client, target, opened)
        self._flows[client] = flow
        self._loop.add_reader(opened, partial(self._from_endpoint, flow))
        self._all.added(flow)
        return flow

    def _send(self, flow: _Flow, data: bytes) -> bool:
        """Send a datagram to a flow's endpoint; end the flow and return False after an error."""
        try:
            flow.socket.send(data)
        except BlockingIOError:
            return True  # a full buffer loses datagrams, as everywhere
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                return True
            self.end(flow)
            return False
        self._used(flow)
        return True

    def _from_endpoint(self, flow: _Flow) -> None:
        for _ in range(_AT_ONCE):
            try:
                data = flow.socket.recv(_DATAGRAM)
            except BlockingIOError:
                return
            except OSError:  # an ICMP error: no process answers there, or no host
                self.end(flow)
                return
            flow.is_answered = True
            self._used(flow)
            with contextlib.suppress(OSError):
                self._socket.sendto(data, flow.client)

    def _used(self, flow: _Flow) -> None:
        self._flows.move_to_end(flow.client)
        self._all.used(flow)
