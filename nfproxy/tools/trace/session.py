"""Traces for a while: makes the table, reads the kernel's messages, and says what is over."""

from __future__ import annotations

import errno
import select
import time
from collections.abc import Iterable, Iterator

from nfproxy.closing import Closing
from nfproxy.dataplane.libnftables import load_text
from nfproxy.errors import DataplaneError, reason_of
from nfproxy.netlink.messages import messages
from nfproxy.netlink.sockets import (
    NETLINK_ADD_MEMBERSHIP,
    SO_RCVBUFFORCE,
    SOL_NETLINK,
    grow_buffer,
    open_script_socket,
    open_socket,
)
from nfproxy.netlink.tracing import TRACE_GROUP, read_event
from nfproxy.tools.trace.endings import TraceEnding, ending_of
from nfproxy.tools.trace.table import TraceTarget, table_text
from nfproxy.tools.trace.traced import TracedConnection, TracedConnections

_RECEIVE = 1 << 16
_BUFFER = 8 << 20
_LOOK_EVERY_S = 0.1
#: An answer within a cluster takes some milliseconds; a client's kernel tries again after 1 s.
_PATIENCE_S = 0.9


class TraceSession(Closing):
    """
    A trace of packets to some targets, in the network namespace that it is made in.

    A context manager; one thread uses it. `is_incomplete` says that the kernel dropped messages.
    """

    def __init__(self, targets: Iterable[TraceTarget]) -> None:
        """
        Make the table. Raises DataplaneError, and MissingFeatureError without libnftables.

        The table is owned by the socket that made it, so it goes with this process.
        """
        self.is_incomplete = False
        self.connections = TracedConnections()
        self._began_s = time.monotonic()
        self._messages = open_socket(blocking=False)
        try:
            grow_buffer(self._messages, SO_RCVBUFFORCE, _BUFFER)
            try:
                self._messages.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, TRACE_GROUP)
            except OSError as error:
                raise DataplaneError(f"cannot receive traces: {reason_of(error)}") from error
            self._owner = open_script_socket()
        except BaseException:
            self._messages.close()
            raise
        try:
            load_text(table_text(targets), netlink=self._owner)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let the kernel remove the table. Idempotent."""
        self._owner.close()
        self._messages.close()

    def run(self, seconds: float, count: int) -> Iterator[tuple[TracedConnection, TraceEnding]]:
        """
        Yield connections as they end, until `seconds` are over or `count` have ended.

        A connection that has no answer for a while counts as ended then; at the end, all do. Raises
        DataplaneError.
        """
        deadline = self._began_s + seconds
        ended: set[int] = set()
        while len(ended) < count:
            now = time.monotonic()
            is_last = now >= deadline
            for connection in list(self.connections):
                idle_s = now - self._began_s - connection.last_s
                if id(connection) in ended or not (
                    is_last or connection.is_over or idle_s > _PATIENCE_S
                ):
                    continue
                ended.add(id(connection))
                yield connection, ending_of(connection)
                if len(ended) >= count:
                    return
            if is_last:
                return
            self._read(min(_LOOK_EVERY_S, deadline - now))

    def _read(self, patience_s: float) -> None:
        """Take the messages that are there, or come within some time."""
        if not select.select([self._messages], [], [], patience_s)[0]:
            return
        while True:
            try:
                data = self._messages.recv(_RECEIVE)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    self.is_incomplete = True
                    continue
                raise DataplaneError(f"cannot read traces: {reason_of(error)}") from error
            at_s = time.monotonic() - self._began_s
            for kind, _, _, start, end, _ in messages(data):
                event = read_event(kind, data, start, end)
                if event is not None:
                    self.connections.take(event, at_s)
