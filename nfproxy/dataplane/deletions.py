"""
What elements had counted when we deleted or replaced them, as the kernel announces it.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import NamedTuple

from nfproxy.dataplane import wire
from nfproxy.dataplane.announcements import RECEIVE, listen
from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.netlink.messages import messages

_BUFFER = 16 << 20  # bytes; a change of one Service takes 5 KB of them


class DeletedElement(NamedTuple):
    """
    An element that was deleted, and the packets it had counted: at least one.

    `generation` is that of the ruleset without it, as `wire.generation` has it.
    """

    generation: int
    family: Family
    map: str
    key: bytes
    packets: int


class Deletions:
    """
    Remembers, in the kernel, our own deletions of elements until they are read.

    If they are not, for long or while very much changes, some are lost, and nobody says so.
    """

    def __init__(self, own_port: int, buffer: int = _BUFFER) -> None:
        """Listen; `own_port` is the netlink port that commits elements. Raises DataplaneError."""
        self._socket = listen(own_port, ours=True, buffer=buffer)

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()

    def read(self) -> Iterator[DeletedElement]:
        """Yield what was deleted since the last call, in that order."""
        while True:
            try:
                data = self._socket.recv(RECEIVE)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                continue
            yield from _deleted(data)


def _deleted(data: bytes) -> Iterator[DeletedElement]:
    for kind, _, _, start, end, _ in messages(data):
        if kind != wire.ELEMENT_DELETED or data[start] not in FAMILIES:
            continue
        family, payload = Family(data[start]), data[start + 4 : end]
        name = wire.set_of(payload)
        for key, packets in wire.counted_elements(payload, 0, len(payload)):
            generation = wire.generation(data, start)
            yield DeletedElement(generation, family, name, key, packets)
