"""What else is on the node: kube-proxy's rules, pods that refuse, health checks, other nodes."""

from __future__ import annotations

import pytest
from incidents.conftest import WEB, Incident

KUBE_PROXY = {
    "nftables": "table ip kube-proxy { chain services { ip daddr 10.96.0.10 drop; }; }",
    "iptables": "table ip nat { chain KUBE-SERVICES { ip daddr 10.96.0.10 accept; }; }",
}
LEGACY = "iptables-legacy -t nat {} KUBE-SERVICES"


@pytest.mark.parametrize("mode", KUBE_PROXY)
def test_kube_proxy_left_its_rules(again: Incident, mode: str) -> None:
    again.nft(KUBE_PROXY[mode])
    answer = again.explain("shop/web")
    assert answer.codes == ["warn OtherProxyRules"]
    assert "LOOK AT THIS" in answer.first_line
    assert "cleanup --kube-proxy" in answer.messages


def test_kube_proxy_left_rules_of_iptables_legacy(again: Incident) -> None:
    again.on_node(LEGACY.format("-N"))
    try:
        answer = again.explain("shop/web")
    finally:
        again.on_node(LEGACY.format("-X"))
    assert answer.codes == ["warn OtherProxyRules"]
    assert "chains of iptables-legacy" in answer.messages


@pytest.mark.parametrize("is_one", [False, True])
def test_the_target_port_is_wrong(again: Incident, is_one: bool) -> None:
    """Nothing listens there: on both pods, or on one that listens on loopback alone."""
    pods = [again.cluster.pod(2, 1), *([] if is_one else [again.cluster.pod(1, 1)])]
    for pod in pods:
        again.nft("table ip no { chain i { type filter hook input priority 0; tcp dport 8080 "
                  "reject with tcp reset; }; }", pod)  # fmt: skip
    try:
        assert sum(one.refused for one in again.clients_try()) > 1
        answer = again.explain("shop/web")
        quiet = again.explain("shop/web", "--no-probe")
    finally:
        for pod in pods:
            again.nft("delete table ip no", pod)
    assert answer.codes == ["fail EndpointRefuses"] * len(pods)
    assert ("WORKS IN PART" if is_one else "REFUSES every connection") in answer.first_line
    assert "127.0.0.1 alone" in answer.messages
    assert quiet.codes == []
    assert [row["probe"] for row in quiet.data["ports"][0]["endpoints"]] == [None, None]


def test_health_checks_are_as_they_should_be(again: Incident) -> None:
    assert again.explain("shop/audit").codes == ["note NoLocalExternal"]


def test_another_nodes_address(again: Incident) -> None:
    """Its rules decide, and not those of this node."""
    answer = again.explain("192.168.77.12:30080")
    assert answer.codes == ["note NotAService"]
    assert "nfproxy explain 192.168.77.12:30080 --node node-2" in answer.messages
    assert all(one.answered for one in again.clients_try(WEB, times=2))
