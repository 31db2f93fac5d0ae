"""What the kernel's announcements of addresses say."""

import struct

import pytest

from nfproxy.host.rtnetlink import Assigned, Change, read_changes
from nfproxy.model.addresses import Family, parse_address

NEW, DELETED, NEW_LINK = 20, 21, 16
TENTATIVE, OPTIMISTIC, DEPRECATED, DAD_FAILED, PERMANENT = 0x40, 0x04, 0x20, 0x08, 0x80

ADDRESS = parse_address("fd00::1")
ASSIGNED = Assigned(Family.IPV6, 7, 64, ADDRESS)


def announcement(
    kind: int = NEW, flags: int = PERMANENT, *, family: int = 10, address: bytes = ADDRESS
) -> bytes:
    """Return one message."""
    body = struct.pack("=BBBBI", family, 64, flags, 0, 7)
    body += struct.pack("=HH", 4 + len(address), 1) + address + bytes(-len(address) % 4)
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body


@pytest.mark.parametrize(
    ("flags", "usable"),
    [
        (PERMANENT, True),
        (DEPRECATED, True),
        (TENTATIVE, False),
        (TENTATIVE | OPTIMISTIC, True),
        (TENTATIVE | DAD_FAILED, False),
        (DAD_FAILED, False),
        (DAD_FAILED | PERMANENT, False),
    ],
)
def test_an_address_is_usable_unless_tentative_or_a_duplicate(flags, usable):
    """
    A deprecated one is only not chosen any more for what the node itself begins.
    """
    assert list(read_changes(announcement(flags=flags))) == [Change(ASSIGNED, usable)]


def test_messages_of_one_buffer_come_in_order():
    """
    A removed address is not usable, whatever its flags; other messages say nothing.
    """
    data = announcement() + announcement(NEW_LINK) + announcement(DELETED) + b"\0" * 7

    assert list(read_changes(data)) == [Change(ASSIGNED, True), Change(ASSIGNED, False)]


@pytest.mark.parametrize(
    "data",
    [
        announcement(family=7),
        announcement(address=b""),
        announcement(address=b"\1\2\3\4"),
        struct.pack("=IHHII", 3, NEW, 0, 0, 0) + bytes(64),
    ],
)
def test_what_is_no_address_of_ours_says_nothing(data):
    """
    Another family, an address of another's length, or a message that has no end.
    """
    assert list(read_changes(data)) == []
