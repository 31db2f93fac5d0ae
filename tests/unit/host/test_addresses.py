"""This node's addresses, followed as they come and go."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from nfproxy.errors import DataplaneError
from nfproxy.host.addresschanges import LocalAddresses
from nfproxy.host.addresses import Addresses, within
from nfproxy.model.addresses import Family, format_address, parse_address, parse_prefix
from nfproxy.tools.lab import Host

LOOPBACK = {"127.0.0.1", "::1"}

#: How long to wait for a change; it comes within milliseconds.
PATIENCE_S = 20


@pytest.fixture
def host(lab):
    """A host with a loopback interface alone."""
    namespace = lab.namespace("host")
    yield Host(namespace)
    lab.drop(namespace)


@pytest.fixture
def neighbour(lab):
    """Another host, to connect interfaces to."""
    namespace = lab.namespace("neighbour")
    yield Host(namespace)
    lab.drop(namespace)


def texts(addresses: Addresses) -> set[str]:
    """Return all addresses but the link-local ones."""
    every = {format_address(one) for family in addresses for one in addresses[family]}
    return {one for one in every if not one.startswith("fe80:")}


def addresses_of(namespace) -> Addresses:
    """Return the present addresses of a namespace."""
    with contextlib.closing(namespace.call(LocalAddresses)) as addresses:
        return addresses.current


def run(host, scenario) -> None:
    """Run a scenario with the addresses of a host."""

    async def inside() -> None:
        async with host.namespace.call(LocalAddresses) as addresses:
            await scenario(addresses)

    asyncio.run(inside())


async def wait_for(addresses: LocalAddresses, expected: set[str]) -> None:
    """Wait until the addresses are as expected."""
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
    """Of both families, on any interface, loopback included."""
    host.connect("eth0", neighbour, "eth0")
    host.add_address("192.168.1.1/24")

    async def scenario(addresses: LocalAddresses) -> None:
        assert texts(addresses.current) == {*LOOPBACK, "192.168.1.1"}
        host.add_address("192.168.1.2/24")
        host.add_address("fd00::2/64")
        host.add_address("10.0.0.1/32", "lo")
        await wait_for(addresses, {*LOOPBACK, "192.168.1.1", "192.168.1.2", "fd00::2", "10.0.0.1"})
        host.remove_address("192.168.1.2/24")
        host.remove_address("fd00::2/64")
        await wait_for(addresses, {*LOOPBACK, "192.168.1.1", "10.0.0.1"})

    run(host, scenario)


def test_both_families_are_always_there(lab):
    """While no interface is up there is no address, and no error."""
    assert addresses_of(lab.namespace("bare")) == {
        Family.IPV4: frozenset(),
        Family.IPV6: frozenset(),
    }


def test_addresses_go_with_their_interface(host, neighbour):
    """Interfaces of pods come and go all the time; addresses on others stay."""
    host.connect("eth0", neighbour, "eth0")
    host.add_address("192.168.1.1/24")

    async def scenario(addresses: LocalAddresses) -> None:
        for number in range(20):
            host.connect("pod", neighbour, "pod")
            host.add_address(f"10.1.0.{number}/32", "pod")
            host.add_address(f"fd00::{number + 1:x}/128", "pod")
            host.remove_interface("pod")
        host.add_address("192.168.1.99/24")
        await wait_for(addresses, {*LOOPBACK, "192.168.1.1", "192.168.1.99"})

    run(host, scenario)


def test_an_address_on_two_interfaces_goes_with_the_last(host, neighbour):
    """A virtual address moves from one interface to the other in this way."""
    host.connect("eth0", neighbour, "eth0")
    host.add_address("10.0.0.1/32", "lo")

    async def scenario(addresses: LocalAddresses) -> None:
        host.add_address("10.0.0.1/24", "eth0")
        host.remove_address("10.0.0.1/32", "lo")
        host.add_address("10.0.0.2/32", "lo")
        await wait_for(addresses, {*LOOPBACK, "10.0.0.1", "10.0.0.2"})
        host.remove_address("10.0.0.1/24", "eth0")
        await wait_for(addresses, {*LOOPBACK, "10.0.0.2"})

    run(host, scenario)


def test_the_own_end_of_a_point_to_point_link_counts(host):
    """The kernel calls the other end the address of such a link."""
    for own, other in (("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")):
        at_once = ["nodad"] if ":" in own else []  # else it is tentative for a moment
        host.namespace.run(["ip", "addr", "add", own, "peer", other, "dev", "lo", *at_once])

    assert texts(addresses_of(host.namespace)) == {*LOOPBACK, "10.0.0.1", "fd00::1"}


def test_a_tentative_address_waits_and_a_deprecated_one_stays(host, neighbour):
    """A neighbour may have a tentative address, and no socket can be bound to it yet."""
    host.connect("eth0", neighbour, "eth0")
    slow = {"ipv6/conf/eth0/accept_dad": "1", "ipv6/conf/eth0/dad_transmits": "1"}
    host.namespace.set_sysctls(slow)
    neighbour.add_address("fd00::bad/64")
    host.add_address("fd00::1/64", as_source=False)  # deprecated

    async def scenario(addresses: LocalAddresses) -> None:
        assert texts(addresses.current) == {*LOOPBACK, "fd00::1"}
        for address in ("fd00::bad/64", "fd00::2/64"):  # without nodad
            host.namespace.run(["ip", "addr", "add", address, "dev", "eth0"])
        await wait_for(addresses, {*LOOPBACK, "fd00::1", "fd00::2"})

    run(host, scenario)


def test_lost_notifications_cause_a_listing(host, monkeypatch):
    """More come at once than the socket holds: the addresses are listed again."""
    many = [f"10.1.{number // 250}.{number % 250 + 1}" for number in range(1000)]
    added = "".join(f"addr add {address}/32 dev lo\n" for address in many)
    removed = "".join(f"addr del {address}/32 dev lo\n" for address in many[1:])
    listed = []
    list_all = LocalAddresses._list
    monkeypatch.setattr(LocalAddresses, "_list", lambda self: listed.append(1) or list_all(self))

    async def scenario(addresses: LocalAddresses) -> None:
        for commands, expected in ((added, many), (removed, many[:1])):
            listed.clear()
            # This blocks the event loop, which does not read meanwhile.
            host.namespace.run(["ip", "-batch", "-"], input=commands)
            await wait_for(addresses, LOOPBACK | set(expected))
            assert listed == [1]
        host.add_address("10.0.0.1/32", "lo")
        await wait_for(addresses, {*LOOPBACK, many[0], "10.0.0.1"})
        assert listed == [1]

    run(host, scenario)


def test_a_failed_listing_is_repeated_at_the_next_change(host, monkeypatch, caplog):
    """A warning is logged, and the addresses known so far stay."""

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
        await wait_for(addresses, {*LOOPBACK, "10.0.0.1", "10.0.0.2"})

    run(host, scenario)


def test_several_may_follow_at_once(host):
    """Each receives the present addresses, and then every change."""

    async def follow(changes: AsyncIterator[Addresses]) -> list[set[str]]:
        received = []
        async for current in changes:
            received.append(texts(current))
            if "10.0.0.1" in received[-1]:
                break
        return received

    async def scenario(addresses: LocalAddresses) -> None:
        both = [asyncio.create_task(follow(addresses.changes())) for _ in range(2)]
        await asyncio.sleep(0)  # both have received the present addresses
        host.add_address("10.0.0.1/32", "lo")
        async with asyncio.timeout(PATIENCE_S):
            assert await asyncio.gather(*both) == [[LOOPBACK, {*LOOPBACK, "10.0.0.1"}]] * 2

    run(host, scenario)


def test_addresses_are_selected_by_prefix():
    """Without prefixes all addresses of the family are selected, loopback included."""
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
