"""Which addresses a Service may have outside the cluster."""

import pytest

from nfproxy.errors import InputError
from nfproxy.kube.addresses import frontend_address
from nfproxy.model.addresses import parse_address


@pytest.mark.parametrize(
    "text",
    [
        *("0.0.0.0", "0.1.2.3", "127.0.0.1", "169.254.169.254", "224.0.0.1", "239.1.2.3"),
        *("240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "ff02::1", "ff05::2", "ff0e::1"),
        *("::127.0.0.1", "::ffff:127.0.0.1", "::ffff:0.0.0.0", "::ffff:224.0.0.1", "127.0.00.1"),
        "::ffff:a9fe:a9fe",
    ],
)
def test_addresses_that_no_service_has_outside_the_cluster(text):
    with pytest.raises(InputError, match="cannot be served"):
        frontend_address(text)


@pytest.mark.parametrize("text", ["203.0.113.1", "10.0.0.1", "2001:db8::1", "64:ff9b::1"])
def test_addresses_that_a_service_may_have_outside_the_cluster(text):
    assert frontend_address(text) == parse_address(text)
