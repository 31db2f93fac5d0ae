"""This node's addresses, followed as they come and go."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from nfproxy.errors import DataplaneError
from nfproxy.host.addresses import Addresses, LocalAddresses, within
from nfproxy.model.addresses import Family, format_address, parse_address, parse_prefix
from nfproxy.tools.lab import Host

LOOPBACK = {"127.0.0.1", "::1"}

#: How long to wait for what must come; it comes in milliseconds.
PATIENCE_S = 20


@pytest.fixture
def host(lab):
    """A host with nothing but its loopback interface."""
    namespace = lab.namespace("host")
    yield Host(namespace)
    lab.drop(namespace)


@pytest.fixture
def neighbour(lab):
    """Another one, to lay cables to."""
    namespace = lab.namespace("neighbour")
    yield Host(namespace)
    lab.drop(namespace)


def texts(addresses: Addresses) -> set[str]:
    """Return all addresses but those that interfaces give themselves."""
    every = {format_address(one) for family in addresses for one in addresses[family]}
    return {one for one in every if not one.startswith("fe80:")}


def addresses_of(namespace) -> Addresses:
    """Return the addresses that a namespace has now."""
    with contextlib.closing(namespace.call(LocalAddresses)) as addresses:
        return addresses.current


def run(host, scenario) -> None:
    """Run a scenario with the addresses of a host."""

    async def inside() -> None:
        async with host.namespace.call(LocalAddresses) as addresses:
            await scenario(addresses)

    asyncio.run(inside())


async def become(addresses: LocalAddresses, expected: set[str]) -> None:
    """Wait until the addresses are these."""
    seen: set[str] = set()
    try:
        async with asyncio.timeout(PATIENCE_S), contextlib.aclosing(addresses.changes()) as changes:
            async for current in changes:
                seen = texts(current)
                if seen == expected:
                    return
    except TimeoutError:
        assert expected == seen


def test_addresses_come_and_go(host, neighbour):
    """
    Of both families, on any interface, the loopback one included.
    """
    host.connect("eth0", neighbour, "eth0")
    host.add_address("192.168.1.1/24")

    async def scenario(addresses: LocalAddresses) -> None:
        assert texts(addresses.current) == {*LOOPBACK, "192.168.1.1"}
        host.add_address("192.168.1.2/24")
        host.add_address("fd00::2/64")
        host.add_address("10.0.0.1/32", "lo")
        await become(addresses, {*LOOPBACK, "192.168.1.1", "192.168.1.2", "fd00::2", "10.0.0.1"})
        host.remove_address("192.168.1.2/24")
        host.remove_address("fd00::2/64")
        await become(addresses, {*LOOPBACK, "192.168.1.1", "10.0.0.1"})

    run(host, scenario)


def test_both_families_are_always_there(lab):
    """
    Before any interface is up there is no address, and no error.
    """
    assert addresses_of(lab.namespace("bare")) == {
        Family.IPV4: frozenset(),
        Family.IPV6: frozenset(),
    }


def test_an_interface_takes_its_addresses_along(host, neighbour):
    """
    Interfaces of pods come and go all the time; what is on others stays.
    """
    host.connect("eth0", neighbour, "eth0")
    host.add_address("192.168.1.1/24")

    async def scenario(addresses: LocalAddresses) -> None:
        for number in range(20):
            host.connect("pod", neighbour, "pod")
            host.add_address(f"10.1.0.{number}/32", "pod")
            host.add_address(f"fd00::{number + 1:x}/128", "pod")
            host.remove_interface("pod")
        host.add_address("192.168.1.99/24")
        await become(addresses, {*LOOPBACK, "192.168.1.1", "192.168.1.99"})

    run(host, scenario)


def test_an_address_on_two_interfaces_goes_with_the_last(host, neighbour):
    """
    As when a virtual address moves from one to the other.
    """
    host.connect("eth0", neighbour, "eth0")
    host.add_address("10.0.0.1/32", "lo")

    async def scenario(addresses: LocalAddresses) -> None:
        host.add_address("10.0.0.1/24", "eth0")
        host.remove_address("10.0.0.1/32", "lo")
        host.add_address("10.0.0.2/32", "lo")
        await become(addresses, {*LOOPBACK, "10.0.0.1", "10.0.0.2"})
        host.remove_address("10.0.0.1/24", "eth0")
        await become(addresses, {*LOOPBACK, "10.0.0.2"})

    run(host, scenario)


def test_of_a_point_to_point_link_the_own_end_counts(host):
    """
    The kernel calls the other end the address there.
    """
    for own, other in (("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")):
        host.namespace.run(["ip", "addr", "add", own, "peer", other, "dev", "lo"])

    assert texts(addresses_of(host.namespace)) == {*LOOPBACK, "10.0.0.1", "fd00::1"}


def test_a_tentative_address_waits_and_a_deprecated_one_stays(host, neighbour):
    """
    A tentative one may turn out to be a neighbour's; nothing can be bound to it before.
    """
    host.connect("eth0", neighbour, "eth0")
    slow = {"ipv6/conf/eth0/accept_dad": "1", "ipv6/conf/eth0/dad_transmits": "1"}
    host.namespace.set_sysctls(slow)
    neighbour.add_address("fd00::bad/64")
    host.add_address("fd00::1/64", as_source=False)  # deprecated

    async def scenario(addresses: LocalAddresses) -> None:
        assert texts(addresses.current) == {*LOOPBACK, "fd00::1"}
        for address in ("fd00::bad/64", "fd00::2/64"):  # without nodad
            host.namespace.run(["ip", "addr", "add", address, "dev", "eth0"])
        await become(addresses, {*LOOPBACK, "fd00::1", "fd00::2"})

    run(host, scenario)


def test_lost_announcements_are_made_up_for(host, monkeypatch):
    """
    More came at once than the socket holds: the table is read again.
    """
    many = [f"10.1.{number // 250}.{number % 250 + 1}" for number in range(1000)]
    added = "".join(f"addr add {address}/32 dev lo\n" for address in many)
    removed = "".join(f"addr del {address}/32 dev lo\n" for address in many[1:])
    listed = []
    list_all = LocalAddresses._list
    monkeypatch.setattr(LocalAddresses, "_list", lambda self: listed.append(1) or list_all(self))

    async def scenario(addresses: LocalAddresses) -> None:
        for commands, expected in ((added, many), (removed, many[:1])):
            listed.clear()
            host.namespace.run(["ip", "-batch", "-"], input=commands)  # nobody reads meanwhile
            await become(addresses, LOOPBACK | set(expected))
            assert listed == [1]
        host.add_address("10.0.0.1/32", "lo")
        await become(addresses, {*LOOPBACK, many[0], "10.0.0.1"})
        assert listed == [1]

    run(host, scenario)


def test_a_failed_listing_is_made_up_for_with_the_next_change(host, monkeypatch, caplog):
    """
    It is logged; the addresses known until then stay in force.
    """

    def fail() -> None:
        raise DataplaneError("the kernel is out of memory")

    async def scenario(addresses: LocalAddresses) -> None:
        addresses._lost = True
        host.add_address("10.0.0.1/32", "lo")
        addresses._listening.recv(1 << 16)
        with monkeypatch.context() as patch:
            patch.setattr(addresses, "_list", fail)
            addresses._on_readable()
        assert "out of memory" in caplog.text
        assert texts(addresses.current) == LOOPBACK
        host.add_address("10.0.0.2/32", "lo")
        await become(addresses, {*LOOPBACK, "10.0.0.1", "10.0.0.2"})

    run(host, scenario)


def test_several_may_follow_at_once(host):
    """
    Each is told all that differs from what it was told before.
    """

    async def follow(changes: AsyncIterator[Addresses]) -> list[set[str]]:
        told = []
        async for current in changes:
            told.append(texts(current))
            if "10.0.0.1" in told[-1]:
                break
        return told

    async def scenario(addresses: LocalAddresses) -> None:
        both = [asyncio.create_task(follow(addresses.changes())) for _ in range(2)]
        await asyncio.sleep(0)  # both have been told what is there
        host.add_address("10.0.0.1/32", "lo")
        async with asyncio.timeout(PATIENCE_S):
            assert await asyncio.gather(*both) == [[LOOPBACK, {*LOOPBACK, "10.0.0.1"}]] * 2

    run(host, scenario)


def test_addresses_are_selected_by_prefix():
    """
    All of a family without prefixes; loopback ones are not left out.
    """
    addresses = {
        Family.IPV4: frozenset(map(parse_address, ("127.0.0.1", "192.168.1.1", "10.0.0.1"))),
        Family.IPV6: frozenset(map(parse_address, ("::1", "fd00::1"))),
    }
    prefixes = (parse_prefix("10.0.0.0/8"), parse_prefix("127.0.0.0/8"))

    assert texts(within(addresses, {Family.IPV4: prefixes, Family.IPV6: None})) == {
        "127.0.0.1",
        "10.0.0.1",
        "::1",
        "fd00::1",
    }
    assert texts(within(addresses, {Family.IPV4: (), Family.IPV6: ()})) == set()
    assert within(addresses, {}) == addresses
