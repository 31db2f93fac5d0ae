"""Which of nfproxy's tables, and what of kube-proxy's, is in the kernel."""

from pathlib import Path

import pytest

from nfproxy.dataplane.otherproxy import kube_proxy_rules
from nfproxy.dataplane.ourtables import our_tables
from nfproxy.model.addresses import Family
from nfproxy.netlink.sockets import NftSocket
from nfproxy.nft.stages import FamilyTables
from nfproxy.tools.lab import Lab, Namespace

TABLES = """
table ip nfproxy {
    comment "nfproxy layout 1"
    chain regular { }
}
table ip nfproxy-next {
    chain hooked { type filter hook forward priority 0; }
}
table ip6 nfproxy { flags dormant; }
table inet nfproxy { }
"""


@pytest.fixture
def node(lab: Lab) -> Namespace:
    return lab.namespace("node")


def test_tables_by_family(node: Namespace) -> None:
    """A table without base chains is not in force beside another one."""

    def read() -> dict[Family, FamilyTables]:
        with NftSocket() as netlink:
            return dict(our_tables(netlink))

    assert node.call(read) == {}
    node.run(["nft", "-f", "-"], input=TABLES)
    found = node.call(read)
    both = frozenset({"nfproxy", "nfproxy-next"})
    first, second = (frozenset({name}) for name in ("nfproxy", "nfproxy-next"))

    assert found[Family.IPV4] == FamilyTables(both, second, other_layout=first)
    assert found[Family.IPV6] == FamilyTables(first, frozenset(), dormant=first)
    assert found[Family.IPV4].serving == "nfproxy-next"


def test_rules_of_kube_proxy(node: Namespace, tmp_path: Path) -> None:
    """Tables of nftables mode, the chain of iptables mode, the interface of ipvs mode."""
    (tmp_path / "self/net").mkdir(parents=True)
    (tmp_path / "self/net/dev").write_text("  lo: 0\nkube-ipvs0: 0 0\n")
    assert node.call(kube_proxy_rules) == ()
    text = "table ip6 kube-proxy { }\ntable ip nat { chain KUBE-SERVICES { }\n }\n"
    node.run(["nft", "-f", "-"], input=text)

    assert node.call(kube_proxy_rules, tmp_path) == (
        "table ip6 kube-proxy",
        "chains of iptables-nft",
        "IPVS (interface kube-ipvs0)",
    )
