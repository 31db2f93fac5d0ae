"""What the kernel's messages say about addresses."""

import struct

import pytest

from nfproxy.errors import DataplaneError
from nfproxy.model.addresses import Family, parse_address
from nfproxy.netlink.rtnetlink import AddressChange, Assigned, address_changes, listed_address

NEW, DELETED, NEW_LINK = 20, 21, 16
TENTATIVE, OPTIMISTIC, DEPRECATED, DAD_FAILED, PERMANENT = 0x40, 0x04, 0x20, 0x08, 0x80

ADDRESS = parse_address("fd00::1")
ASSIGNED = Assigned(Family.IPV6, 7, 64, ADDRESS)


def notification(
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
    """A deprecated address is usable: the node only does not choose it for new connections."""
    data = notification(flags=flags)

    assert list(address_changes(data)) == [AddressChange(ASSIGNED, usable)]
    assert listed_address(data[16:]) == (ASSIGNED if usable else None)


def test_messages_of_one_buffer_come_in_order():
    """A removed address is not usable, whatever its flags; messages of other types are skipped."""
    data = notification() + notification(NEW_LINK) + notification(DELETED) + b"\0" * 7

    assert list(address_changes(data)) == [
        AddressChange(ASSIGNED, True),
        AddressChange(ASSIGNED, False),
    ]


@pytest.mark.parametrize(
    "data",
    [
        notification(family=7),
        notification(address=b""),
        notification(address=b"\1\2\3\4"),
    ],
)
def test_other_messages_change_nothing(data):
    """Another family, or an address of the other family's length."""
    assert list(address_changes(data)) == []


def test_a_message_with_a_bad_length_is_an_error():
    """What follows it cannot be found."""
    with pytest.raises(DataplaneError):
        list(address_changes(struct.pack("=IHHII", 3, NEW, 0, 0, 0) + bytes(64)))
