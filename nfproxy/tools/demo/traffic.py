"""
Connections that never stop while things change.
"""

from __future__ import annotations

import functools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple, Self

from nfproxy.tools.demo.http import Connection
from nfproxy.tools.demo.results import Held
from nfproxy.tools.lab import Host

_PAUSE_S = 0.005
_JOIN_S = 10.0


class Taken(NamedTuple):
    """What happened to new connections since the last time somebody asked."""

    answers: Counter[str]
    failures: tuple[str, ...]
    sent_again: int


class Traffic:
    """
    A steady stream of new connections on each of several ways, and connections held open.

    A way is (host, address, port). `held_each` connections are opened per way before the
    streams start and asked in turns until the end. A context manager.
    """

    def __init__(self, ways: Iterable[tuple[Host, str, int]], held_each: int) -> None:
        self._ways = list(ways)
        self._lock = threading.Lock()
        self._answers: Counter[str] = Counter()
        self._failures: list[str] = []
        self._sent_again = 0
        self._held_requests = 0
        self._held_failures: list[str] = []
        self._stop = threading.Event()
        self._held: list[tuple[str, Connection, str]] = []  # way, connection, pod
        self._threads: list[threading.Thread] = []
        try:
            for way in self._ways:
                for _ in range(held_each):
                    self._hold(*way)
        except BaseException:
            self.close()
            raise
        streams = [functools.partial(self._stream, *way) for way in self._ways]
        jobs: list[Callable[[], None]] = [*streams, self._ask_held]
        for job in jobs:
            thread = threading.Thread(target=job, name="traffic", daemon=True)
            self._threads.append(thread)
            thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def take(self) -> Taken:
        """Return what happened since the last call."""
        with self._lock:
            taken = Taken(self._answers, tuple(self._failures), self._sent_again)
            self._answers, self._failures, self._sent_again = Counter(), [], 0
        return taken

    def held(self) -> Held:
        """Return what happened to the connections that were held open."""
        return Held(len(self._held), self._held_requests, tuple(self._held_failures))

    def close(self) -> None:
        """Stop everything. Idempotent."""
        self._stop.set()
        for thread in self._threads:
            thread.join(_JOIN_S)
        for _, connection, _ in self._held:
            connection.close()

    def _hold(self, host: Host, address: str, port: int) -> None:
        connection = Connection(host, address, port)
        pod = connection.ask().pod
        self._held.append((f"{host.name} to {address} on {pod}", connection, pod))

    def _stream(self, host: Host, address: str, port: int) -> None:
        while not self._stop.is_set():
            try:
                with Connection(host, address, port) as connection:
                    pod, again = connection.ask().pod, connection.sent_again()
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
            for index, (way, connection, pod) in enumerate(self._held):
                if index in broken:
                    continue
                try:
                    answer = connection.ask()
                    if answer.pod != pod:
                        raise ConnectionError(f"suddenly answered by {answer.pod}")
                    self._held_requests += 1
                except OSError as error:
                    broken.add(index)
                    self._held_failures.append(f"{way}: {error}")
                time.sleep(_PAUSE_S)
