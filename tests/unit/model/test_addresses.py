"""Addresses and prefixes as Kubernetes reads them."""

import pytest

from nfproxy.errors import InputError
from nfproxy.model.addresses import (
    Family,
    Prefix,
    collapse,
    family_of,
    format_address,
    parse_address,
    parse_prefix,
)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("10.96.0.1", "10.96.0.1"),
        ("010.096.000.001", "10.96.0.1"),
        ("::ffff:10.96.0.1", "10.96.0.1"),
        ("FD00:0:0::1", "fd00::1"),
        ("::", "::"),
        ("255.255.255.255", "255.255.255.255"),
    ],
)
def test_addresses_are_read_as_tolerantly_as_the_api_does(text: str, canonical: str):
    """Leading zeros are decimal, and an IPv4-mapped address is IPv4."""
    assert canonical == format_address(parse_address(text))


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "10.96.0",
            "10.96.0.256",
            "10.96.0.1.1",
            "10.96.0.1 ",
            "\u0661\u0660.96.0.1",
            "a.b.c.d",
        ),
        *(
            "fe80::1%eth0",
            "fd00::g",
            "fd00::1::2",
            "10.96.0.1/32",
            "1" * 5000,
            "\0",
            "999999.0.0.0",
        ),
    ],
)
def test_what_is_no_address_is_refused_with_a_short_message(text: str):
    """The message names the text, cut to a length fit for a line."""
    with pytest.raises(InputError, match="is not an IP address") as caught:
        parse_address(text)
    assert len(str(caught.value)) < 120


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("10.96.0.1/16", "10.96.0.0/16"),
        (" 10.96.0.0/12 ", "10.96.0.0/12"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("fd00::1/64", "fd00::/64"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("10.0.0.1/32", "10.0.0.1/32"),
    ],
)
def test_prefixes_lose_their_host_bits(text: str, canonical: str):
    """As Kubernetes does, blanks are trimmed and host bits are masked off."""
    assert canonical == str(parse_prefix(text))


@pytest.mark.parametrize(
    "text", ["10.0.0.0", "10.0.0.0/33", "10.0.0.0/-1", "fd00::/129", "10.0.0.0/", "/8", "::/٣", ""]
)
def test_what_is_no_prefix_is_refused(text: str):
    """A length that does not fit is as wrong as none."""
    with pytest.raises(InputError):
        parse_prefix(text)


@pytest.mark.parametrize(
    ("prefix", "last"),
    [
        ("10.0.0.0/8", "10.255.255.255"),
        ("0.0.0.0/0", "255.255.255.255"),
        ("10.0.0.1/32", "10.0.0.1"),
        ("::/0", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ],
)
def test_the_last_address_of_a_prefix(prefix: str, last: str):
    """All host bits set."""
    assert last == format_address(parse_prefix(prefix).last)


def test_a_prefix_contains_only_addresses_of_its_family():
    """An IPv6 address is in no IPv4 prefix, not even in all of it."""
    everything = parse_prefix("0.0.0.0/0")

    assert parse_address("10.0.0.1") in everything
    assert parse_address("fd00::1") not in everything
    assert parse_address("11.0.0.0") not in parse_prefix("10.0.0.0/8")
    assert parse_address("10.255.255.255") in parse_prefix("10.0.0.0/8")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["10.0.0.0/8", "10.1.0.0/16"], ["10.0.0.0/8"]),
        (["10.128.0.0/9", "10.0.0.0/9"], ["10.0.0.0/8"]),
        (["10.1.0.0/16", "10.1.0.0/16"], ["10.1.0.0/16"]),
        (["128.0.0.0/1", "0.0.0.0/1"], ["0.0.0.0/0"]),
        (["10.2.0.0/16", "10.0.0.0/16"], ["10.0.0.0/16", "10.2.0.0/16"]),
        ([], []),
    ],
)
def test_overlapping_and_adjacent_prefixes_are_joined(given: list[str], expected: list[str]):
    """nf_tables refuses overlapping ranges of one set."""
    joined: list[Prefix] = collapse([parse_prefix(text) for text in given])

    assert expected == [str(prefix) for prefix in joined]


def test_a_family_knows_its_words_and_its_size():
    """The value is nf_tables' number, the label the API's."""
    assert family_of(parse_address("10.0.0.1")) is Family.IPV4
    assert family_of(parse_address("fd00::1")) is Family.IPV6
    assert (Family.IPV4.table, Family.IPV4.label, Family.IPV4.size) == ("ip", "IPv4", 4)
    assert (Family.IPV6.table, Family.IPV6.label, Family.IPV6.size) == ("ip6", "IPv6", 16)
