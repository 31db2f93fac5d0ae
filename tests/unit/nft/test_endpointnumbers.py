"""The numbers of endpoints. Packet tests hold that the kernel's rules compute the same."""

import pytest

from nfproxy.model.addresses import parse_address
from nfproxy.nft import schema
from nfproxy.nft.endpointnumbers import FIRST_NUMBER, NUMBER_MASK, endpoint_number


@pytest.mark.parametrize(
    ("address", "port", "number"),
    [("10.244.1.5", 8080, 1645935815), ("fd00:10:244:1::5", 8080, 1480775751)],
)
def test_numbers_stay_the_same(address: str, port: int, number: int):
    """Clients that an older version remembered keep their endpoints."""
    found = endpoint_number(parse_address(address) + schema.port_bytes(port))

    assert found == number


def test_numbers_differ_and_no_other_priority_is_one():
    """Of 50,000 endpoints some may have one number: as many as in 2^30 by chance."""
    numbers = [
        endpoint_number(bytes((10, 244, index >> 8, index & 255)) + schema.port_bytes(8080))
        for index in range(50_000)
    ]

    assert all(number & NUMBER_MASK == FIRST_NUMBER for number in numbers)
    assert len(set(numbers)) > 49_990
