"""The names of kube-proxy's chains and sets, and similar names of others."""

import pytest

from nfproxy.tools.takeover import names


@pytest.mark.parametrize(
    ("table", "name", "is_its_own"),
    [
        ("nat", "KUBE-SERVICES", True),
        ("nat", "KUBE-SVC-K6DFPUR2VHBLU6EI", True),
        ("nat", "KUBE-SEP-7WFMEXUZWJQTEL7E", True),
        ("nat", "KUBE-XLB-OC75ADYDLQBELC26", True),
        ("nat", "KUBE-LOAD-BALANCER", True),
        ("nat", "KUBE-HOSTPORTS", False),
        ("nat", "KUBE-SVC-MINE", False),
        ("nat", "KUBE-SEP-7WFMEXUZWJQTEL7E-OLD", False),
        ("nat", "KUBE-FORWARD", False),
        ("nat", "KUBE-KUBELET-CANARY", False),
        ("filter", "KUBE-FORWARD", True),
        ("filter", "KUBE-PROXY-FIREWALL", True),
        ("filter", "KUBE-FIREWALL", False),
        ("filter", "KUBE-ROUTER-FORWARD", False),
        ("filter", "KUBE-NWPLCY-DEFAULT", False),
        ("filter", "KUBE-POD-FW-XYWJ4FCFL5ERFVZD", False),
        ("filter", "KUBE-FW-OC75ADYDLQBELC26", False),
        ("mangle", "KUBE-PROXY-CANARY", True),
        ("mangle", "KUBE-IPTABLES-HINT", False),
        ("raw", "KUBE-SERVICES", False),
    ],
)
def test_chains_are_known_by_table_and_name(table, name, is_its_own):
    """The hash in the name marks chains of single Services."""
    assert names.is_chain(table, name) is is_its_own


def test_ipsets_of_both_families_are_known():
    """kube-proxy cuts the names of IPv6 sets to the length that ipset allows."""
    assert {
        "KUBE-CLUSTER-IP",
        "KUBE-6-CLUSTER-IP",
        "KUBE-LOAD-BALANCER-SOURCE-CIDR",
        "KUBE-6-LOAD-BALANCER-SOURCE-CID",
        "KUBE-6-NODE-PORT-LOCAL-SCTP-HAS",
        "KUBE-IPVS-IPS",
    } <= names.IPSETS
    assert len(names.IPSETS) == 34
    assert max(map(len, names.IPSETS)) == 31
    assert "KUBE-DST-3YNVZWWGX3UQQ4VQ" not in names.IPSETS
