"""
The ranges of cluster IPs, judged.
"""

import pytest
from support.preflight import levels

from nfproxy.config.kubeproxy import KubeProxyConfiguration
from nfproxy.model.addresses import parse_address, parse_prefix
from nfproxy.model.node import Node
from nfproxy.tools.preflight.access import ApiAccess
from nfproxy.tools.preflight.apiserver import ApiServers
from nfproxy.tools.preflight.findings import Level
from nfproxy.tools.preflight.servicecidrs import judge_service_ranges


class Examined:
    """What the judgement reads of a subject."""

    config = KubeProxyConfiguration(cluster_cidr="10.244.0.0/16")


@pytest.mark.parametrize(
    ("cidrs", "expected"),
    [
        ([], [Level.OK]),
        (["10.96.0.0/12"], [Level.OK]),
        (["192.0.2.0/24"], [Level.WARN]),
        (["192.0.2.0/24", "10.0.0.0/8"], [Level.WARN, Level.WARN]),
    ],
)
def test_ranges_hold_no_node_and_no_pod(cidrs, expected):
    """A warning names the range, what it holds, and what to do."""
    servers = ApiServers(service_cidrs=tuple(map(parse_prefix, cidrs)))
    access = ApiAccess(node=Node("n", addresses=(parse_address("192.0.2.1"),)))

    found = judge_service_ranges(Examined, servers, access)
    assert levels(found) == expected
    assert all(one.remedy for one in found if one.level is Level.WARN)
