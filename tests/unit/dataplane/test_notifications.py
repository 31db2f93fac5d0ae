"""
Whose changes are told of: in a namespace, with real commits.
"""

import select
from collections.abc import Iterator

import pytest

from nfproxy.dataplane.kernel import Kernel
from nfproxy.dataplane.notifications import Notifications
from nfproxy.model.addresses import Family
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.nft import ruleset, schema
from nfproxy.reconcile.transition import Operation
from nfproxy.tools.lab import Lab, Namespace

PROGRAM = ruleset.program_text(NodeConfig(node_name="node-1").program, Family.IPV4, ())
ELEMENT = Operation(True, Family.IPV4, schema.CLUSTER_IPS, bytes((10, 96, 0, 1)))


class Watched:
    """A namespace with our table, and what is told of it."""

    def __init__(self, namespace: Namespace) -> None:
        self.namespace = namespace
        self.kernel: Kernel = namespace.call(Kernel)
        self.notifications: Notifications = namespace.call(self.kernel.notifications)
        self.load(PROGRAM)

    def load(self, text: str) -> None:
        """Load text as the daemon does."""
        self.namespace.call(self.kernel.load, text)

    def nft(self, text: str) -> None:
        """Load text as a person does."""
        self.namespace.run(["nft", "-f", "-"], input=text)

    def told(self) -> str:
        """Return what is told by now; announcements are there when a commit has returned."""
        culprit = ""
        while select.select([self.notifications], [], [], 0)[0]:
            culprit = self.notifications.read() or culprit
        return culprit


@pytest.fixture
def watched(namespaces_allowed: None) -> Iterator[Watched]:
    with Lab() as lab:
        made = Watched(lab.namespace("node"))
        yield made
        made.kernel.close()


def test_our_own_changes_are_not_told(watched: Watched) -> None:
    """
    Neither elements, by netlink, nor the program, by a child.
    """
    watched.kernel.commit([ELEMENT])
    watched.load(PROGRAM)

    assert watched.told() == ""


@pytest.mark.parametrize(
    "text",
    [
        "add element ip nfproxy cluster-ips { 10.96.0.2 }",
        "add rule ip nfproxy services counter",
        "delete table ip nfproxy",
        "flush ruleset",
        "add table ip zzz\nadd table ip other\nadd table ip6 nfproxy",
    ],
)
def test_others_changes_are_told_with_their_name(watched: Watched, text: str) -> None:
    """
    To any part of the table, and in transactions that begin with something else.
    """
    watched.nft(text)

    assert watched.told().startswith("nft (pid ")
    assert watched.told() == ""


@pytest.mark.parametrize(
    "text",
    [
        "add table ip other\nadd chain ip other nfproxy",
        "add table inet nfproxy",  # another family: not ours
        "add table ip nfproxy-probe",
        'add table ip other { comment "nfproxy"; }',
    ],
)
def test_what_others_do_to_theirs_is_not_told(watched: Watched, text: str) -> None:
    """
    Whatever it is called.
    """
    watched.nft(text)

    assert watched.told() == ""


def test_lost_announcements_are_told(watched: Watched) -> None:
    """
    They may have hidden anything.
    """
    few = watched.namespace.call(Notifications, 0, 4096)
    rows = ", ".join(f"10.0.{i >> 8}.{i & 255}" for i in range(20_000))
    watched.nft(
        f"table ip other {{\n set s {{\n typeof ip daddr\n elements = {{ {rows} }}\n }}\n}}"
    )
    culprit = few.read()
    few.close()

    assert "announcements were lost" in culprit
    assert watched.told() == ""
