"""UDP flows that never end: one socket each, a datagram every 20 ms, and the answer wanted."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Iterable
from typing import Self

from support.packets.sending import Probe

from nfproxy.tools.lab.attempts import socket_family

INTERVAL_S = 0.02
PATIENCE_S = 1.0


class UdpFlows:
    """
    Keeps flows going from entering to leaving; `failures` says which were not served.

    An answer has to come from where the first one came, with the same source seen: whatever
    changes, conntrack goes on translating a flow in the same way.
    """

    def __init__(self, probes: Iterable[Probe]) -> None:
        self.failures: list[str] = []
        self.sent = 0
        self._flows = [_Flow(probe) for probe in probes]
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="udp-flows", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
        for flow in self._flows:
            flow.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            for flow in self._flows:
                flow.send()
            self.sent += len(self._flows)
            time.sleep(INTERVAL_S)
            for flow in self._flows:
                self.failures += flow.check()
        time.sleep(INTERVAL_S)


class _Flow:
    def __init__(self, probe: Probe) -> None:
        self._name = f"{probe.source.name} to {probe.destination}:{probe.port}"
        self._socket = probe.source.namespace.socket(
            socket_family(probe.destination), socket.SOCK_DGRAM
        )
        self._socket.setblocking(False)
        self._socket.connect((probe.destination, probe.port))
        self._first = b""
        self._since = time.monotonic()  # of the last answer

    def send(self) -> None:
        try:
            self._socket.send(b"?")
        except OSError:
            return  # an error reported for an earlier datagram: the check below shows

    def check(self) -> list[str]:
        now = time.monotonic()
        found = []
        while select.select([self._socket], [], [], 0)[0]:
            try:
                answer = self._socket.recv(4096)
            except OSError as error:
                found.append(f"{self._name}: {error}")
                break
            self._first = self._first or answer
            self._since = now
            if answer != self._first:
                found.append(f"{self._name}: {answer!r} after {self._first!r}")
                self._first = answer
        if now - self._since > PATIENCE_S:
            found.append(f"{self._name}: no answer for {PATIENCE_S:g} s")
            self._since = now
        return found

    def close(self) -> None:
        self._socket.close()
