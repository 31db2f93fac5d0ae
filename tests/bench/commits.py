"""The kernel's announcements of commits, as they come."""

from __future__ import annotations

import socket
import struct
import threading
import time
from typing import Self

from nfproxy.host import bpf
from nfproxy.netlink.sockets import SO_ATTACH_FILTER
from nfproxy.tools.lab import Namespace

_NETLINK_NETFILTER, _SOL_NETLINK, _ADD_MEMBERSHIP, _NO_ENOBUFS = 12, 270, 1, 5
_NFNLGRP_NFTABLES, _NEWGEN, _NEWELEMENTS = 7, (10 << 8) | 15, (10 << 8) | 12
_HEADER = struct.Struct("=IHHII")
_ENOUGH = 1024  # bytes of a buffer: of a large commit, one message of each kind


class Commits:
    """Notes when each commit to nf_tables in a namespace was announced; a context manager."""

    def __init__(self, namespace: Namespace) -> None:
        """Listen from now on."""
        self._socket = namespace.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
        self._socket.bind((0, 0))
        self._socket.setsockopt(_SOL_NETLINK, _NO_ENOBUFS, 1)
        # What is measured shall not wait for a processor because this walks through all elements.
        bpf.attach(self._socket, SO_ATTACH_FILTER, [(bpf.RETURN, 0, 0, _ENOUGH)])
        self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _NFNLGRP_NFTABLES)
        self._socket.settimeout(0.2)
        self._stop = False
        self._came = threading.Condition()
        self.count = 0
        self.first = self.last = 0.0
        self.first_of_elements = 0.0  # the first commit that added elements
        self.times: list[float] = []
        self._thread = threading.Thread(target=self._listen, name="commits", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self._stop = True
        self._thread.join()
        self._socket.close()

    def _listen(self) -> None:
        adds = False
        while not self._stop:
            try:
                data = self._socket.recv(1 << 17)
            except TimeoutError:
                continue
            now = time.monotonic()
            kinds = _kinds(data)
            adds |= _NEWELEMENTS in kinds
            if _NEWGEN in kinds:
                with self._came:
                    self.count += 1
                    self.first, self.last = self.first or now, now
                    if adds:
                        self.first_of_elements = self.first_of_elements or now
                    adds = False
                    self.times.append(now)
                    self._came.notify_all()

    def forget(self) -> None:
        """Begin again."""
        with self._came:
            self.count, self.first, self.last, self.times = 0, 0.0, 0.0, []
            self.first_of_elements = 0.0

    def wait(self, limit_s: float = 20.0) -> float:
        """
        Wait for the first commit that adds elements, and return when it was announced.

        One before it may load a chain. Raises TimeoutError.
        """
        with self._came:
            if not self._came.wait_for(lambda: self.first_of_elements, limit_s):
                raise TimeoutError("no commit")
            return self.first_of_elements

    def wait_until_quiet(self, quiet_s: float, limit_s: float = 120.0) -> None:
        """Wait until no commit has come for a while."""
        began = time.monotonic()
        while time.monotonic() - max(began, self.last) < quiet_s:
            if time.monotonic() - began > limit_s:
                raise TimeoutError("commits go on and on")
            time.sleep(min(0.1, quiet_s / 4))


def _kinds(data: bytes) -> list[int]:
    kinds, at = [], 0
    while at + 16 <= len(data):
        size, kind, *_ = _HEADER.unpack_from(data, at)
        if size < 16:
            break
        kinds.append(kind)
        at += (size + 3) & ~3
    return kinds
