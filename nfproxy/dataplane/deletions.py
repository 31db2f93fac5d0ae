"""What the kernel reports about elements that this process deletes: what they had counted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from nfproxy.dataplane.announcements import buffers, listen
from nfproxy.errors import DataplaneError
from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.netlink.elements import counted_elements, set_of
from nfproxy.netlink.messages import family_of, messages
from nfproxy.netlink.nftables import DELETE_ELEMENTS, SUBSYSTEM, generation

_BUFFER = 16 << 20  # bytes: a change of one Service takes 5 KB


class DeletedElement(NamedTuple):
    """
    An element that this process deleted, and the packets it had counted: at least one.

    `generation` is that of the ruleset without the element, see `nftables.generation`.
    """

    generation: int
    family: Family
    map: str
    key: bytes
    packets: int


class CountedDeletions:
    """
    Keeps, in a socket's buffer, what deleted elements had counted, until it is read.

    If nothing reads for long while very much changes, the kernel drops some without a report. One
    thread at a time.
    """

    def __init__(self, own_port: int, buffer: int = _BUFFER) -> None:
        """Listen. `own_port` is the netlink port that commits elements. Raises DataplaneError."""
        self._socket = listen(own_port, ours=True, buffer=buffer)

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()

    def read(self) -> Iterator[DeletedElement]:
        """Yield the elements deleted since the last call, in order of deletion."""
        for data in filter(None, buffers(self._socket)):  # what the kernel dropped is lost
            with suppress(DataplaneError):
                for kind, _, _, start, end, _ in messages(data):
                    if kind == SUBSYSTEM << 8 | DELETE_ELEMENTS:
                        yield from _deleted(data[start:end])


def _deleted(payload: bytes) -> Iterator[DeletedElement]:
    if family_of(payload) not in FAMILIES:
        return
    family, name, number = Family(payload[0]), set_of(payload), generation(payload)
    for key, packets in counted_elements(payload):
        yield DeletedElement(number, family, name, key, packets)
