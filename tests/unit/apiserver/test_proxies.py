"""Which proxy a request goes through."""

from __future__ import annotations

import pytest

from nfproxy.apiserver.serverpool import proxy_for

PROXY = "http://proxy.example:3128"
URL = "https://10.1.2.3:6443"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"HTTPS_PROXY": PROXY}, PROXY),
        ({"https_proxy": PROXY}, PROXY),
        ({"HTTPS_PROXY": "proxy.example:3128"}, PROXY),
        ({"HTTP_PROXY": PROXY}, None),
        ({"HTTPS_PROXY": ""}, None),
    ],
)
def test_the_variable_of_the_scheme_counts(environ, expected):
    """In upper or lower case, with or without scheme."""
    assert proxy_for(URL, environ) == expected


@pytest.mark.parametrize(
    ("url", "no_proxy", "direct"),
    [
        (URL, "10.0.0.0/8", True),
        (URL, "10.96.0.0/12,192.168.0.0/16", False),
        (URL, " 10.1.2.3 ", True),
        (URL, "10.1.2.3:6443", True),
        (URL, "10.1.2.3:443", False),
        (URL, "*", True),
        (URL, "10.1.2", False),
        (URL, "10.0.0.0/99,,/", False),
        ("https://[fd00::1]:6443", "fd00::/8", True),
        ("https://[fd00::1]:6443", "[fd00::1]:6443", True),
        ("https://[fd00::1]:6443", "fd00:0::1", True),
        ("https://[fd00::1]:6443", "fd00::2", False),
        ("https://api.example.org", "example.org", True),
        ("https://api.example.org", ".example.org", True),
        ("https://example.org", ".example.org", False),
        ("https://api.example.org", "*.EXAMPLE.org", True),
        ("https://badexample.org", "example.org", False),
        ("https://api.example.org", "api.example.org:443", True),
    ],
)
def test_no_proxy_means_what_it_means_in_go(url, no_proxy, direct):
    """Users of Kubernetes write for Go programs: CIDRs above all."""
    found = proxy_for(url, {"HTTPS_PROXY": PROXY, "NO_PROXY": no_proxy})

    assert (found is None) == direct


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost"])
def test_loopback_is_never_reached_through_a_proxy(host):
    """The proxy has a loopback of its own."""
    assert proxy_for(f"https://{host}:6443", {"HTTPS_PROXY": PROXY}) is None
