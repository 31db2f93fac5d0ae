"""What the node is asked for beside its tables: who answers, and which rules of others drop."""

from __future__ import annotations

import pytest
from support.kernel import rules
from support.packets.steps import ENDPOINT_PORT

from nfproxy.dataplane.foreigndrops import read_foreign_drops
from nfproxy.host.endpointprobes import probe_endpoints
from nfproxy.insight.nodefacts import ForeignDrop, ProbeResult
from nfproxy.model.addresses import FAMILIES, Family, parse_address
from nfproxy.netlink.sockets import NftSocket
from nfproxy.nft.schema import port_bytes
from nfproxy.tools.lab import Cluster, LabNode

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


def drops(node: LabNode, *addresses: str) -> tuple[ForeignDrop, ...]:
    def read() -> tuple[ForeignDrop, ...]:
        with NftSocket() as netlink:
            return read_foreign_drops(netlink, [parse_address(address) for address in addresses])

    return node.namespace.call(read)


POLICY = """
table inet cni-policy {
    chain forward {
        type filter hook forward priority 0; policy accept;
        ip daddr 10.244.2.11 tcp dport 8080 counter drop comment "NetworkPolicy shop/deny-all"
        ip daddr 10.244.2.12 counter accept
        ip6 daddr fd00:10:244:2::11 reject
    }
    chain other {
        ip daddr 10.244.1.11 drop
    }
}
table ip filter {
    chain FORWARD {
        type filter hook forward priority 0; policy drop;
    }
}
table ip nat {
    chain translate {
        type nat hook prerouting priority 0; policy accept;
        ip daddr 10.244.2.11 accept
    }
}
"""


def test_rules_that_drop_are_named(served: Cluster, flushed: None):
    node = served.nodes[0]
    assert drops(node, "10.244.2.11") == ()
    rules.load(node, POLICY)

    found = drops(node, "10.244.2.11", "10.244.2.12", "10.244.1.11", "fd00:10:244:2::11")

    seen = {(drop.table, drop.chain, drop.address, drop.packets, drop.comment) for drop in found}
    assert seen == {
        ("ip filter", "FORWARD", b"", None, ""),
        (
            "inet cni-policy",
            "forward",
            parse_address("10.244.2.11"),
            0,
            "NetworkPolicy shop/deny-all",
        ),
        ("inet cni-policy", "forward", parse_address("fd00:10:244:2::11"), None, ""),
        ("inet cni-policy", "other", parse_address("10.244.1.11"), None, ""),
    }
