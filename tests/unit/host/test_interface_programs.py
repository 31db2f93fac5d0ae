"""What sees packets of an interface outside nf_tables, read from the kernel."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.packets import xdp

from nfproxy.host.interfaceprograms import read_interface_programs
from nfproxy.host.routes import read_links
from nfproxy.insight.nodefacts import InterfaceProgram
from nfproxy.tools.lab import Lab, Namespace

U32 = "tc filter add dev one ingress protocol ip u32 match ip dport 80 0xffff"


@pytest.fixture
def node(namespaces_allowed: None) -> Iterator[Namespace]:
    with Lab() as lab:
        made = lab.namespace("node")
        made.run(["ip", "link", "add", "one", "type", "veth", "peer", "two"])
        yield made


def programs(node: Namespace, *names: str) -> list[InterfaceProgram]:
    def read() -> tuple[InterfaceProgram, ...]:
        chosen = names or ("one", "two")
        return read_interface_programs([link for link in read_links() if link.name in chosen])

    return list(node.call(read))


def test_an_ordinary_interface_has_none(node: Namespace) -> None:
    node.run(
        [
            "tc",
            "qdisc",
            "add",
            "dev",
            "one",
            "root",
            "tbf",
            *["rate", "1gbit", "burst", "32k", "limit", "9k"],
        ]
    )
    assert programs(node) == []


def test_an_xdp_program(node: Namespace) -> None:
    node.call(xdp.drop_all, "one")
    assert programs(node) == [InterfaceProgram("one", "an XDP program")]
    assert programs(node, "two") == []
    node.call(xdp.take_off, "one")
    assert programs(node) == []


@pytest.mark.parametrize("queue", ["clsact", "ingress"])
def test_filters_of_tc(node: Namespace, queue: str) -> None:
    node.run(["tc", "qdisc", "add", "dev", "one", queue])
    assert programs(node) == []
    node.run([*U32.split(), "classid", "1:1"])
    assert programs(node) == [InterfaceProgram("one", "a tc filter (u32) at ingress")]
    node.run([*U32.split(), "action", "mirred", "egress", "redirect", "dev", "lo"])
    takes = InterfaceProgram("one", "a tc filter (u32) at ingress", takes_packets=True)
    assert programs(node)[0] == takes


def test_a_filter_that_copies_takes_nothing(node: Namespace) -> None:
    node.run(["tc", "qdisc", "add", "dev", "one", "clsact"])
    node.run([*U32.split(), "action", "mirred", "egress", "mirror", "dev", "lo"])
    assert [one.takes_packets for one in programs(node)] == [False]
