"""Names and comments never exceed what nft takes, however long an object's names are."""

import re

import pytest
from support.objects.model import changes, endpoint, endpoint_slice, service

from nfproxy.kube.identity import label
from nfproxy.model.addresses import FAMILIES
from nfproxy.model.nodeconfig import LocalPods, NodeConfig
from nfproxy.model.service import Protocol, ServicePort
from nfproxy.plan.planner import Planner
from nfproxy.reconcile.script import script

LONGEST_COMMENT, LONGEST_NAME = 128, 127  # NFTNL_UDATA_COMMENT_MAXLEN, NFT_NAME_MAXLEN - 1


@pytest.mark.parametrize("name", ["0", "1password", "3" * 63, "9-a", "007"])
def test_a_service_may_begin_with_a_digit(name):
    assert label(name) == name


def test_the_longest_names_fit():
    """Also those that begin with a digit, with everything a Service can ask for."""
    name = f"0{'x' * 61}9"
    ports = tuple(
        ServicePort(f"{index}{'p' * 62}", protocol, 65000 + index, 32000 + index)
        for index, protocol in enumerate(Protocol)
    )
    web = service(
        name,
        namespace=name,
        ports=ports,
        external_ips=("203.0.113.1", "2001:db8::1"),
        load_balancer_ips=("203.0.113.2", "2001:db8::2"),
        affinity_timeout_s=10800,
        external_local=True,
    )
    piece = endpoint_slice(name, endpoint("10.244.1.5", "n" * 253))
    made = Planner(NodeConfig(node_name="n" * 253, local_pods=LocalPods(interface_prefix="v" * 15)))
    made.apply(changes(web, piece))
    text = script(made.desired, made.config.program, FAMILIES)

    comments = re.findall(r'comment "([^"]*)"', text)
    names = re.findall(r"(?:chain|map|set) ([a-z][\w-]*)", text)
    assert made.desired.frontends
    assert comments
    assert max(len(comment.encode()) for comment in comments) <= LONGEST_COMMENT
    assert max(map(len, names)) <= LONGEST_NAME
