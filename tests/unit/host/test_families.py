"""Which families a host has, and which of them are in use."""

import asyncio

import pytest

from nfproxy.daemon.background import FamiliesChangedError, until_families_change
from nfproxy.dataplane import probes
from nfproxy.errors import MissingFeatureError
from nfproxy.host.addresses import enabled_families, families_of_host
from nfproxy.model.addresses import FAMILIES, Family

ONE_ADDRESS = "fe800000000000000000000000000001 02 40 20 80 eth0\n"


def proc_with(root, addresses, switch):
    """Write what the kernel says; None is what it does not have."""
    for name, text in (
        ("net/if_inet6", addresses),
        ("sys/net/ipv6/conf/all/disable_ipv6", switch),
    ):
        if text is not None:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("addresses", "switch", "has_ipv6", "uses_ipv6"),
    [
        (ONE_ADDRESS, "0\n", True, True),
        ("", "0\n", True, True),
        ("", "1\n", True, False),
        (ONE_ADDRESS, "1\n", True, True),
        ("", None, True, True),
        (None, None, False, False),
    ],
    ids=["on", "no address yet", "off", "on for one interface", "no switch", "no IPv6"],
)
def test_families_follow_the_kernel(tmp_path, addresses, switch, has_ipv6, uses_ipv6):
    proc = proc_with(tmp_path, addresses, switch)

    assert (Family.IPV6 in families_of_host(proc)) is has_ipv6
    assert (Family.IPV6 in enabled_families(proc)) is uses_ipv6


@pytest.mark.parametrize("enabled", [FAMILIES, (Family.IPV4,)], ids=["on", "off"])
@pytest.mark.parametrize("lacks", [False, True], ids=["features", "no features"])
def test_what_the_kernel_lacks_for_ipv6_matters_where_it_is_on(monkeypatch, enabled, lacks):
    """The daemon says what is missing, as long as IPv6 is on."""
    missing = MissingFeatureError("no fib expression for IPv6") if lacks else None
    monkeypatch.setattr(probes, "families_of_host", lambda: FAMILIES)
    monkeypatch.setattr(probes, "enabled_families", lambda: enabled)
    monkeypatch.setattr(probes, "first_missing_feature", lambda _: missing)

    assert probes.families_to_program() == (enabled if lacks else FAMILIES)


class Moments:
    """Addresses that change twice; IPv6 comes with the second change."""

    def __init__(self, proc):
        self._proc = proc

    async def changes(self):
        yield {}
        proc_with(self._proc, None, None)
        yield {}
        proc_with(self._proc, ONE_ADDRESS, "0")
        yield {}


def test_ipv6_that_comes_as_a_module_ends_the_daemon(tmp_path):
    """It is started again, with both families."""
    with pytest.raises(FamiliesChangedError, match="IPv6"):
        asyncio.run(until_families_change(Moments(tmp_path), tmp_path))
