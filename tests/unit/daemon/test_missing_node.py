"""What is said while this node's Node object is missing."""

import asyncio
import json
import logging

import pytest

from nfproxy import __version__
from nfproxy.daemon.missingnode import MissingNode
from nfproxy.errors import DataplaneError
from nfproxy.health import Health, Instant
from nfproxy.kube.nodenames import ListedNode
from nfproxy.metrics import Metrics
from nfproxy.model.addresses import FAMILIES
from nfproxy.model.node import Node


class Cluster:
    """An API server's answers about Nodes; `asked` counts the lists."""

    def __init__(self) -> None:
        self.exists: bool | None = False
        self.fails = False
        self.asked = 0

    async def names(self):
        self.asked += 1
        if self.fails:
            raise DataplaneError("out of reach")
        return (ListedNode("vm.example.org", "vm"), ListedNode("other"))


@pytest.fixture
def cluster():
    return Cluster()


@pytest.fixture
def health():
    return Health(30)


@pytest.fixture
def metrics():
    return Metrics(FAMILIES, __version__)


@pytest.fixture
def watched(cluster, health, metrics):
    return MissingNode("vm", "vm", lambda: cluster.exists, cluster.names, health, metrics)


def look(watched, *moments):
    """Look at these seconds."""
    for moment in moments:
        asyncio.run(watched.look(moment))


def warnings(caplog):
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


def is_missing(metrics):
    return b"\nnfproxy_node_missing 1\n" in metrics.text()


def test_a_missing_node_is_reported_with_names_it_may_have(
    watched, cluster, health, metrics, caplog
):
    """After two seconds, when kube-proxy would go on, and every five minutes; one list for all."""
    look(watched, 0, 1)
    assert warnings(caplog) == []

    look(watched, *range(2, 700))

    said = warnings(caplog)
    assert len(said) == 4  # at 2, 30, 330 and 630 s
    assert said[0].startswith("there is no Node 'vm', but 'vm.example.org', since 2 s: ")
    assert "--hostname-override" in said[0]
    assert cluster.asked == 1
    assert is_missing(metrics)
    answer = health.healthz(Instant(0, 0))
    assert answer.code == 503
    assert "'vm.example.org'" in json.loads(answer.body)["reason"]


def test_a_node_that_comes_is_reported_once(watched, cluster, health, metrics, caplog):
    """The metric goes back, and a later absence begins again."""
    caplog.set_level(logging.INFO)
    look(watched, 0, 2)
    cluster.exists = True
    look(watched, 5, 6)

    assert [r.getMessage() for r in caplog.records][1:] == ["Node vm is there after 5 s"]
    assert not is_missing(metrics)
    cluster.exists = False
    look(watched, 100, 101)
    assert len(warnings(caplog)) == 1
    look(watched, 102)
    assert "was deleted" in warnings(caplog)[1]


def test_a_node_that_comes_soon_is_no_news(watched, cluster, caplog):
    """A kubelet that registers it in the first moments is normal."""
    caplog.set_level(logging.INFO)
    look(watched, 0, 1)
    cluster.exists = True
    look(watched, 2, 3)

    assert caplog.records == []


def test_nothing_is_said_before_the_api_server_has_answered(watched, cluster, caplog):
    """What keeps it from answering is reported elsewhere."""
    cluster.exists = None
    look(watched, *range(100))

    assert caplog.records == []


def test_names_that_cannot_be_listed_are_asked_for_again(watched, cluster, caplog):
    """The warning comes without them."""
    cluster.fails = True
    look(watched, 0, 2)
    cluster.fails = False
    look(watched, 30)

    first, second = warnings(caplog)
    assert "kubectl get nodes" in first
    assert "'vm.example.org'" in second


def test_a_deleted_node_is_no_wrong_name(watched, cluster, health, caplog):
    """Its name was right, so no other is named."""
    cluster.exists = True
    health.node_seen(Node("vm"))
    look(watched, 0)
    cluster.exists = False
    health.node_gone()
    look(watched, 10, 12)

    (text,) = warnings(caplog)
    assert "was deleted" in text
    assert "vm.example.org" not in text
    assert cluster.asked == 0
