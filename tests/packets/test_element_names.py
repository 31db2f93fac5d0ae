"""Frontends carry the name of their service port in the kernel."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from support.kernel.real import RealKernel
from support.objects.model import changes, endpoint_slice, gone, service

from nfproxy.model.addresses import FAMILIES
from nfproxy.model.changes import Changes
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.model.service import ObjectName, Protocol, ServicePort
from nfproxy.plan.planner import Planner
from nfproxy.reconcile.reconciler import Reconciler
from nfproxy.reconcile.script import script
from nfproxy.reconcile.syncreport import ResyncReason
from nfproxy.tools.lab import Lab

CONFIG = NodeConfig(node_name="node-1")


class Node:
    """A planner and a reconciler over the kernel of a namespace."""

    def __init__(self, kernel: RealKernel) -> None:
        self.kernel = kernel
        self.now = 0.0
        self.start()

    def start(self) -> None:
        """Begin without memory, as a restart does."""
        self.planner = Planner(CONFIG)
        self.reconciler = Reconciler(
            self.kernel, self.planner.desired, CONFIG, FAMILIES, lambda: self.now
        )

    def take(self, *batches: Changes) -> int:
        """Plan changes, commit them, and return the number of operations."""
        for batch in batches:
            self.reconciler.touch(self.planner.apply(batch))
        return self.reconciler.sync().operations

    def names(self) -> dict[str, str]:
        """Return each frontend's name, as nft lists it."""
        listed = self.kernel.namespace.run(["nft", "list", "table", "ip", "nfproxy"]).stdout
        row = r'(\w[\w. ]* \. \d+) counter packets \d+ bytes \d+(?: comment "([^"]*)")?'
        return dict(re.findall(row, listed))


@pytest.fixture
def node(namespaces_allowed: None) -> Iterator[Node]:
    with Lab() as lab:
        kernel = RealKernel(lab.namespace("node"))
        yield Node(kernel)
        kernel.close()


def web(name: str = "web", port: str = "http", **more: object) -> Changes:
    ports = (ServicePort(port, Protocol.TCP, 80, 30080),)
    return changes(
        service(name, ports=ports, **more),  # type: ignore[arg-type]
        endpoint_slice(name, "10.244.1.5", port_name=port),
    )


def test_frontends_and_node_ports_are_named(node: Node) -> None:
    """With the port's name, where it has one."""
    node.take(web(), changes(service("plain", cluster_ips=("10.96.0.2",))))
    assert node.names() == {
        "10.96.0.1 . tcp . 80": "default/web:http",
        "10.96.0.2 . tcp . 80": "default/plain",
        "tcp . 30080": "default/web:http",
    }


def test_a_name_follows_its_frontend_in_the_same_transaction(node: Node) -> None:
    """To another port's name, to another Service, and back, though nothing else changes."""
    older, younger = web("older", created="2026-01-01"), web("younger", created="2026-02-01")
    node.take(younger)
    assert node.names()["10.96.0.1 . tcp . 80"] == "default/younger:http"
    node.take(older)
    assert node.names()["10.96.0.1 . tcp . 80"] == "default/older:http"
    node.take(gone(*older.services.values(), *older.slices.values()))  # type: ignore[type-var]
    assert set(node.names().values()) == {"default/younger:http"}
    node.take(web("younger", port="web", created="2026-02-01"))
    assert set(node.names().values()) == {"default/younger:web"}


def test_a_service_that_replaces_another_before_a_commit_gets_its_name(node: Node) -> None:
    """The element is the same; its verdict is written again for the name."""
    first = web("first")
    node.take(first)
    node.take(gone(*first.services.values(), *first.slices.values()), web("second"))  # type: ignore[type-var]
    assert set(node.names().values()) == {"default/second:http"}


def test_after_a_restart_wrong_names_are_written_again_and_right_ones_are_not(node: Node) -> None:
    """A name is compared only where there is one."""
    node.take(web("first"))
    node.start()
    assert node.take(web("first")) == 0
    node.start()
    assert node.take(web("second")) == 4
    assert set(node.names().values()) == {"default/second:http"}


def test_elements_without_names_stay_until_they_change(node: Node) -> None:
    """The tables of an earlier nfproxy are not rewritten at once."""
    node.take(web())
    listed = node.kernel.namespace.run(["nft", "list", "table", "ip", "nfproxy"]).stdout
    bare = re.sub(r' comment "default[^"]*"', "", listed)
    node.kernel.namespace.run(["nft", "-f", "-"], input=f"delete table ip nfproxy\n{bare}")
    assert set(node.names().values()) == {""}
    node.start()
    assert node.take(web()) == 0
    node.reconciler.distrust(ResyncReason.AUDIT)
    assert node.take() == 0
    assert set(node.names().values()) == {""}
    node.take(changes(endpoint_slice("web", "10.244.1.5", "10.244.1.6", port_name="http")))
    assert set(node.names().values()) == {"default/web:http"}


def test_the_longest_name_is_cut(node: Node) -> None:
    """Nft takes 128 bytes."""
    name = ObjectName("n" * 63, "s" * 63)
    ports = (ServicePort("p" * 15, Protocol.TCP, 80, 0),)
    node.take(changes(service(name.name, namespace=name.namespace, ports=ports)))
    (found,) = node.names().values()
    assert len(found) == 127
    assert found.startswith(f"{name}"[:124])
    assert found.endswith("...")


def test_a_script_names_them_alike(node: Node) -> None:
    """What render prints loads, and lists the same."""
    node.take(web())
    by_elements = node.names()
    text = script(node.planner.desired, CONFIG.program, FAMILIES)
    node.kernel.namespace.run(["nft", "-f", "-"], input=text)
    assert node.names() == by_elements
