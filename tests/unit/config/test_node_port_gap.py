"""Node ports that the configuration asks for, and that no address of the host can serve."""

import pytest

from nfproxy.config.nodeports import node_port_gap
from nfproxy.model.addresses import Family, parse_address, parse_prefix

LOCAL = [parse_address(text) for text in ("127.0.0.1", "169.254.1.1", "10.0.0.5", "10.244.1.1")]


@pytest.mark.parametrize(
    ("prefixes", "gap"),
    [
        (["203.0.113.7/32"], "203.0.113.7, so"),
        (["198.51.100.0/24", "203.0.113.7/32"], "198.51.100.0/24, 203.0.113.7, so"),
        ([f"203.0.{n}.0/24" for n in range(9)], "203.0.2.0/24, …, so"),
        (["203.0.113.7/32", "10.0.0.0/8"], ""),
        (["10.0.0.5/32"], ""),
        ([], ""),
        (None, ""),
    ],
)
def test_an_address_that_is_on_no_interface_is_said(prefixes, gap):
    """Any of the prefixes is enough; none at all asks for nothing."""
    given = None if prefixes is None else tuple(parse_prefix(text) for text in prefixes)
    found = node_port_gap(Family.IPV4, given, LOCAL)

    if not gap:
        assert found is None
        return
    assert found is not None
    assert gap in found.what
    assert "such as 10.0.0.5/32, 10.244.1.1/32;" in found.remedy


def test_without_a_usable_address_the_remedy_is_all():
    """Loopback and link-local addresses are no remedy."""
    found = node_port_gap(
        Family.IPV6, (parse_prefix("2001:db8::7/128"),), [parse_address("fe80::1")]
    )

    assert found is not None
    assert "such as all;" in found.remedy
