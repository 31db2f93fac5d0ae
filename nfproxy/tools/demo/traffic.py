"""HTTP requests from hosts of the lab, and connections that go on while Services change."""

from __future__ import annotations

import functools
import http.client
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

from nfproxy.closing import Closing
from nfproxy.tools.demo.results import HeldConnections
from nfproxy.tools.lab.hosts import Host, packets_sent_again

_PAUSE_S = 0.005
_JOIN_S = 10.0


class PodAnswer(NamedTuple):
    """The pod that answered, and the client address that it saw."""

    pod: str
    seen: str


class HttpConnection(http.client.HTTPConnection, Closing):
    """
    A connection from a host to an address and port. A context manager; one thread uses it.

    Raises what `connect` does: ConnectionRefusedError, TimeoutError or another OSError.
    """

    auto_open = 0  # a connection that ends is a failure: no other takes its place

    def __init__(
        self, host: Host, address: str, port: int, *, source: str = "", timeout_s: float = 5.0
    ) -> None:
        super().__init__(address, port)
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.sock = host.namespace.socket(family, socket.SOCK_STREAM)
        try:
            self.sock.settimeout(timeout_s)
            if source:
                self.sock.bind((source, 0))
            self.sock.connect((address, port))
        except BaseException:
            self.close()
            raise

    def ask(self) -> PodAnswer:
        """
        Send a request and return the answer. Raises OSError.

        The connection stays open, so that the client closes it first. A server that did would keep
        it in TIME-WAIT, and refuse a new connection that happens to have the same ports.
        """
        try:
            self.request("GET", "/")
            pod, _, seen = self.getresponse().read().decode().split()
        except http.client.HTTPException as error:
            raise ConnectionError(f"the connection ended within an answer: {error}") from error
        return PodAnswer(pod, seen)


class Taken(NamedTuple):
    """What happened to new connections since the last call of `Traffic.take`."""

    answers: Counter[str]
    failures: tuple[str, ...]
    sent_again: int


class Traffic(Closing):
    """
    New connections all the time on each of several paths, and connections that stay open.

    A path is (host, address, port). `held_each` connections per path are opened first; until the
    end they send one request after the other. A context manager; any thread may call it.
    """

    def __init__(self, paths: Iterable[tuple[Host, str, int]], held_each: int) -> None:
        self._lock = threading.Lock()
        self._answers: Counter[str] = Counter()
        self._failures: list[str] = []
        self._sent_again = 0
        self._held_requests = 0
        self._held_failures: list[str] = []
        self._stop = threading.Event()
        self._held: list[tuple[str, HttpConnection, str]] = []  # path, connection, pod
        self._threads: list[threading.Thread] = []
        every = list(paths)
        try:
            for path in every:
                for _ in range(held_each):
                    self._hold(*path)
        except BaseException:
            self.close()
            raise
        streams = [functools.partial(self._stream, *path) for path in every]
        jobs: list[Callable[[], None]] = [*streams, self._ask_held]
        for job in jobs:
            thread = threading.Thread(target=job, name="traffic", daemon=True)
            self._threads.append(thread)
            thread.start()

    def take(self) -> Taken:
        """Return what happened since the last call."""
        with self._lock:
            taken = Taken(self._answers, tuple(self._failures), self._sent_again)
            self._answers, self._failures, self._sent_again = Counter(), [], 0
        return taken

    def held(self) -> HeldConnections:
        """Return what happened to the connections that stay open."""
        return HeldConnections(len(self._held), self._held_requests, tuple(self._held_failures))

    def close(self) -> None:
        """Stop everything. Idempotent."""
        self._stop.set()
        for thread in self._threads:
            thread.join(_JOIN_S)
        for _, connection, _ in self._held:
            connection.close()

    def _hold(self, host: Host, address: str, port: int) -> None:
        connection = HttpConnection(host, address, port)
        pod = connection.ask().pod
        self._held.append((f"{host.name} to {address} on {pod}", connection, pod))

    def _stream(self, host: Host, address: str, port: int) -> None:
        while not self._stop.is_set():
            try:
                with HttpConnection(host, address, port) as connection:
                    pod, again = connection.ask().pod, packets_sent_again(connection.sock)
            except OSError as error:
                with self._lock:
                    self._failures.append(f"{host.name} to {address}: {error}")
            else:
                with self._lock:
                    self._answers[pod] += 1
                    self._sent_again += again
            time.sleep(_PAUSE_S)

    def _ask_held(self) -> None:
        broken: set[int] = set()
        while not self._stop.is_set():
            for index, (path, connection, pod) in enumerate(self._held):
                if index in broken:
                    continue
                try:
                    answer = connection.ask()
                    if answer.pod != pod:
                        raise ConnectionError(f"suddenly {answer.pod} answered")
                    self._held_requests += 1
                except OSError as error:
                    broken.add(index)
                    self._held_failures.append(f"{path}: {error}")
                time.sleep(_PAUSE_S)
