"""What the node is asked for beside its tables: who answers."""

from __future__ import annotations

import pytest
from support.kernel import rules
from support.packets.steps import ENDPOINT_PORT

from nfproxy.host.endpointprobes import probe_endpoints
from nfproxy.insight.nodefacts import ProbeResult
from nfproxy.model.addresses import FAMILIES, Family, parse_address
from nfproxy.nft.schema import port_bytes
from nfproxy.tools.lab import Cluster

families = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.label)


QUIET = """
table inet quiet {
    chain input {
        type filter hook input priority 0; policy drop;
    }
}
"""


def end(address: str, port: int) -> bytes:
    return parse_address(address) + port_bytes(port)


@families
def test_answers_refusals_and_silence_of_endpoints_differ(served: Cluster, family: Family):
    node, pod, silent = served.nodes[0], served.pod(1, 1), served.pod(2, 2)
    word = family.table
    rules.load(
        silent,
        f"table {word} quiet {{\nchain in {{\ntype filter hook input priority 0\ndrop\n}}\n}}",
    )
    nowhere = "10.99.0.1" if family is Family.IPV4 else "fd99::1"
    node.namespace.run(["ip", "route", "add", "blackhole", nowhere])
    try:
        ends = {
            ProbeResult.OK: end(pod.address(family), ENDPOINT_PORT),
            ProbeResult.REFUSED: end(pod.address(family), 9),
            ProbeResult.TIMEOUT: end(silent.address(family), ENDPOINT_PORT),
            ProbeResult.NO_ROUTE: end(nowhere, 80),
        }
        found = node.namespace.call(probe_endpoints, list(ends.values()))
        assert {result: found[each].result for result, each in ends.items()} == {
            result: result for result in ProbeResult
        }
        took_s = found[ends[ProbeResult.OK]].seconds
        assert took_s is not None
        assert 0 < took_s < 1
    finally:
        rules.flush(silent)
        node.namespace.run(["ip", "route", "del", "blackhole", nowhere])
