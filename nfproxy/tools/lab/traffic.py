"""
Connections that never stop, to show that nothing is lost while rules change.

::

    with Traffic(cluster.client, "10.96.0.1", 80, held=4) as traffic:
        traffic.wait_for(100)
        ...change the rules...
        traffic.wait_for(100)
    assert traffic.failures == []

A lost first packet is seen exactly, not by its delay: the kernel says how many packets of a TCP
connection it sent again, and one is a loss, although the connection was made. The attempts of tests
over UDP and SCTP send nothing again, so a lost packet has no answer.
"""

from __future__ import annotations

import errno
import select
import socket
import threading
import time
from collections import Counter, deque
from typing import NamedTuple, Self

from nfproxy.tools.lab.attempts import (
    ConnectAttempt,
    Ending,
    TcpAttempt,
    open_attempt,
    socket_family,
)
from nfproxy.tools.lab.hosts import Host, packets_sent_again

PATIENCE_SECONDS = 0.9  # less than the second after which a lost SYN is sent again
ECHO_SECONDS = 0.02
BURST = 20
HELD_PORTS = range(61000, 65536)  # held connections' source ports, above those of attempts


class Failure(NamedTuple):
    """A connection that was not served: when (since the start), and what happened to it."""

    at_s: float
    reason: str
    source_port: int


class _Pending(NamedTuple):
    attempt: ConnectAttempt
    since: float


class Traffic:
    """
    Open `rate` connections a second to one address, from entering to leaving.

    With `held`, so many TCP connections are open all the time as well, and each sends a line every
    20 ms and wants it back; `echoes` counts these. Source ports come back after 28,000 connections:
    keep `rate` times the length below that. `sent`, `answers` (how often each identity answered),
    `echoes` and `failures` may be read at any time, and are complete after leaving. `began_s` is
    when it was entered, on the monotonic clock.
    """

    attempt: type[ConnectAttempt] = TcpAttempt

    def __init__(
        self,
        source: Host,
        destination: str,
        port: int,
        *,
        rate: int = 500,
        held: int = 0,
        source_address: str = "",
    ) -> None:
        self.sent = 0
        self.echoes = 0
        self.answers: Counter[str] = Counter()
        self.failures: list[Failure] = []
        self._path = (source, destination, port)
        self._source_address = source_address
        self._interval_s = 1 / rate
        self._held_count = held
        self._held: list[_Held] = []
        self._pending: dict[int, _Pending] = {}
        self._order: deque[_Pending] = deque()
        self._failed_new = 0
        self._ended = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)
        self._broken: BaseException | None = None

    def __enter__(self) -> Self:
        self.began_s = time.monotonic()
        try:
            for _ in range(self._held_count):
                self._held.append(_Held(*self._path, self._source_address))
        except BaseException:
            self._close_held()
            raise
        self._epoll = select.epoll()
        self._thread.start()
        return self

    def __exit__(self, _: object, error: BaseException | None, *__: object) -> None:
        self._stopping = True
        self._thread.join()
        for pending in self._pending.values():
            pending.attempt.close()
        self._close_held()
        self._epoll.close()
        if self._broken is not None and error is None:
            raise self._broken

    @property
    def answered(self) -> int:
        """How many connections were answered so far."""
        return self.answers.total()

    def wait_for(self, count: int, *, timeout_s: float = 30.0) -> None:
        """Return when `count` connections opened after this call have ended somehow."""
        target = self.sent + count
        with self._ended:
            done = self._ended.wait_for(
                lambda: self._broken or self.answered + self._failed_new >= target, timeout_s
            )
        if not done or self._broken:
            raise TimeoutError(f"{self.sent} sent, {self.answered} answered, no more came")

    def settle(self) -> None:
        """Give servers of this process the time to answer, before an attempt counts as lost."""

    def _run(self) -> None:
        try:
            self._send_and_watch()
        except BaseException as error:  # raised again where the traffic is left
            with self._ended:
                self._broken = error
                self._ended.notify_all()

    def _send_and_watch(self) -> None:
        next_send = next_echo = time.monotonic()
        while not self._stopping or self._pending:
            now = time.monotonic()
            if not self._stopping:
                next_send = self._send_due(now, next_send)
                if now >= next_echo:
                    self._echo_all(now)
                    next_echo = now + ECHO_SECONDS
            for fd, _ in self._epoll.poll(self._interval_s):
                pending = self._pending.get(fd)
                report = pending.attempt.advance() if pending else None
                if pending and report:
                    self._finish(pending, report)
            self._give_up_old()

    def _send_due(self, now: float, next_send: float) -> float:
        """Send what is due, at most a burst, and return when the next one is."""
        for _ in range(BURST):
            if next_send > now:
                return next_send
            self._send()
            next_send += self._interval_s
        return now

    def _send(self) -> None:
        one = open_attempt(self.attempt, *self._path, source_address=self._source_address)
        pending = _Pending(one, time.monotonic())
        self.sent += 1
        self._pending[one.fileno()] = pending
        report = one.start()
        if report is not None:
            self._finish(pending, report, watched=False)
            return
        self._epoll.register(one.fileno(), select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
        self._order.append(pending)

    def _give_up_old(self) -> None:
        while self._order:
            oldest = self._order[0]
            if oldest.attempt.fileno() >= 0:
                if time.monotonic() - oldest.since < PATIENCE_SECONDS:
                    return
                self.settle()
                self._finish(oldest, oldest.attempt.advance())
            self._order.popleft()

    def _finish(self, pending: _Pending, report: Ending | None, *, watched: bool = True) -> None:
        one = pending.attempt
        reason = _failure(one, report)
        if watched:
            self._epoll.unregister(one.fileno())
        del self._pending[one.fileno()]
        one.close()
        with self._ended:
            if report and not reason:
                self.answers[report.line.partition(" ")[0]] += 1
            else:
                self._failed_new += 1
                self._fail(reason, one.source_port)
            self._ended.notify_all()

    def _fail(self, reason: str, source_port: int) -> None:
        self.failures.append(Failure(time.monotonic() - self.began_s, reason, source_port))

    def _echo_all(self, now: float) -> None:
        for held in list(self._held):
            try:
                self.echoes += held.echo(now)
            except OSError as error:
                reason = _name(error.errno) if error.errno else str(error)
                self._drop(held, f"held connection to {held.by}: {reason}")

    def _close_held(self) -> None:
        for held in list(self._held):
            sent_again = held.resent()
            if sent_again:
                self._drop(held, f"held connection: {sent_again} packets were lost")
        for held in self._held:
            held.close()
        self._held.clear()

    def _drop(self, held: _Held, reason: str) -> None:
        self._fail(reason, held.source_port)
        self._held.remove(held)
        held.close()


class _Held:
    """A TCP connection that stays open, with one line under way at a time."""

    def __init__(self, source: Host, destination: str, port: int, source_address: str) -> None:
        self._socket = source.namespace.socket(socket_family(destination), socket.SOCK_STREAM)
        try:
            self._socket.settimeout(PATIENCE_SECONDS)
            _bind_outside(self._socket, source_address)
            self._socket.connect((destination, port))
            self.by = self._socket.recv(4096).decode().partition(" ")[0]
            self._socket.setblocking(False)
        except BaseException:
            self._socket.close()
            raise
        self.source_port = int(self._socket.getsockname()[1])
        self._line = b""
        self._got = b""
        self._since = 0.0
        self._number = 0

    def echo(self, now: float) -> bool:
        """Take what came back, and send the next line once all is there. Raises OSError."""
        if self._line:
            self._got += self._read()
        if self._got != self._line:
            if now - self._since > PATIENCE_SECONDS:
                raise TimeoutError("no echo")
            return False
        self._number += 1
        self._line, self._got, self._since = b"line %d\n" % self._number, b"", now
        self._socket.send(self._line)
        return self._number > 1

    def resent(self) -> int:
        return packets_sent_again(self._socket)

    def close(self) -> None:
        self._socket.close()

    def _read(self) -> bytes:
        try:
            data = self._socket.recv(4096)
        except BlockingIOError:
            return b""
        if not data:
            raise ConnectionResetError(errno.ECONNRESET, "closed")
        return data


def _bind_outside(sock: socket.socket, address: str) -> None:
    """Bind to a port above those of attempts, so that a rule can match these connections."""
    for port in HELD_PORTS:
        try:
            sock.bind((address, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            return
    raise OSError(errno.EADDRINUSE, f"no free source port in {HELD_PORTS}")


def _failure(attempt: ConnectAttempt, report: Ending | None) -> str:
    """Return why an attempt counts as lost, "" where it was answered at once."""
    if report is None:
        return "dropped: no answer"
    if report.error:
        return _name(report.error)
    sent_again = attempt.resent()
    return f"first packet lost: the SYN was sent {sent_again} times again" if sent_again else ""


def _name(error: int) -> str:
    return errno.errorcode.get(error, str(error))
