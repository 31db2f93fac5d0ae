"""What configuration and Node object mean for the dataplane."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nfproxy.config.flags import Flags
from nfproxy.config.load import load
from nfproxy.config.nodeconfig import node_config, node_name
from nfproxy.errors import ConfigError
from nfproxy.model.addresses import Family, parse_address, parse_prefix
from nfproxy.model.node import Node
from nfproxy.model.nodeconfig import LocalPods

V4, V6 = Family.IPV4, Family.IPV6


def node(*addresses, zone="", pod_cidrs=()):
    """Return a Node object with these addresses and pod CIDRs, as text."""
    return Node(
        name="n1",
        addresses=tuple(parse_address(a) for a in addresses),
        zone=zone,
        pod_cidrs=tuple(parse_prefix(c) for c in pod_cidrs),
    )


def planned(of=None, /, **flags):
    """Return NodeConfig and warnings for flags, with pods recognised by interface unless said."""
    if not {"cluster_cidr", "detect_local_mode"} & set(flags):
        flags |= {"detect_local_mode": "BridgeInterface", "pod_bridge_interface": "cni0"}
    return node_config(load(Flags.of(**flags)).config, "n1", of)


def prefixes(*texts):
    return tuple(parse_prefix(text) for text in texts)


@pytest.mark.parametrize(
    ("override", "host", "name"),
    [
        ("", "n1", "n1"),
        ("", " N1.Example.ORG\n", "n1.example.org"),
        ("Node-A ", "n1", "node-a"),
    ],
)
def test_the_node_is_named_by_override_or_host_name(override, host, name):
    """Trimmed and in lower case."""
    config = load(Flags.of(hostname_override=override)).config

    assert name == node_name(config, host)
    assert name == node_config(config, host, None)[0].node_name


@pytest.mark.parametrize("host", ["", " \n"])
def test_a_node_without_a_name_is_refused(host):
    """The error says how to name it."""
    with pytest.raises(ConfigError, match="--hostname-override"):
        node_name(load(Flags()).config, host)


@pytest.mark.parametrize(
    ("bind", "addresses", "ips"),
    [
        ("0.0.0.0", [], {}),
        ("0.0.0.0", ["10.0.0.1"], {V4: "10.0.0.1"}),
        ("::", ["10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2"], {V4: "10.0.0.1", V6: "fd00::1"}),
        ("10.9.9.9", ["10.0.0.1", "fd00::1"], {V4: "10.9.9.9", V6: "fd00::1"}),
        ("fd00::9", ["10.0.0.1"], {V4: "10.0.0.1", V6: "fd00::9"}),
        ("10.9.9.9", [], {V4: "10.9.9.9"}),
        ("127.0.0.1", ["10.0.0.1", "fd00::1"], {V6: "fd00::1"}),
        ("0.0.0.0", ["127.0.0.1", "::1"], {}),
    ],
)
def test_node_ips_come_from_bind_address_then_node(bind, addresses, ips):
    """The first address of a family counts; loopback is no node IP."""
    config, _ = planned(node(*addresses), bind_address=bind)

    assert {family: parse_address(ip) for family, ip in ips.items()} == config.node_ips


@pytest.mark.parametrize(
    ("addresses", "v4", "v6"),
    [
        (["10.0.0.1", "10.0.0.2", "fd00::1"], prefixes("10.0.0.1/32"), prefixes("fd00::1/128")),
        (["10.0.0.1"], prefixes("10.0.0.1/32"), ()),
        (["fd00::1"], (), prefixes("fd00::1/128")),
    ],
)
def test_primary_means_the_node_ips(addresses, v4, v6):
    """A family without one accepts no node ports; single-stack nodes need no warning."""
    config, warnings = planned(node(*addresses))

    assert {V4: v4, V6: v6} == config.node_port_prefixes
    assert warnings == ()


@pytest.mark.parametrize(("of", "why"), [(None, "is unknown"), (node(), "has no address")])
@pytest.mark.parametrize("entries", ["", "primary", "primary,localhost"])
def test_primary_without_any_node_ip_accepts_no_node_ports_and_warns(of, why, entries):
    """kube-proxy would accept them on every address then, which is not what "primary" asks for."""
    config, warnings = planned(of, nodeport_addresses=entries)

    assert config.node_port_prefixes == {V4: (), V6: ()}
    assert why in warnings[0]
    assert "--hostname-override" in warnings[0]
    assert len(warnings) == 1


def test_other_addresses_accept_node_ports_without_a_node():
    """Only what "primary" stands for is missing."""
    config, _ = planned(None, nodeport_addresses="primary,10.0.0.0/8")

    assert config.node_port_prefixes == {V4: prefixes("10.0.0.0/8"), V6: ()}


V4_OWN, V6_OWN = prefixes("192.0.2.1/32"), prefixes("fd00::1/128")


@pytest.mark.parametrize(
    ("given", "v4", "v6", "loopback"),
    [
        ("primary,10.0.0.0/8", prefixes("10.0.0.0/8", "192.0.2.1/32"), V6_OWN, set()),
        ("10.0.0.0/8, primary", prefixes("10.0.0.0/8", "192.0.2.1/32"), V6_OWN, set()),
        ("primary,192.0.2.0/24", prefixes("192.0.2.0/24"), V6_OWN, set()),
        ("primary,primary", V4_OWN, V6_OWN, set()),
        ("all", None, None, set()),
        ("all,primary,10.0.0.0/8", None, None, set()),
        ("0.0.0.0/0,primary", None, V6_OWN, set()),
        ("localhost", (), (), {V4, V6}),
        ("primary,localhost", V4_OWN, V6_OWN, {V4, V6}),
        ("all,localhost", None, None, {V4, V6}),
        ("primary,127.0.0.1/32", V4_OWN, V6_OWN, {V4}),
        ("primary,::1/128", V4_OWN, V6_OWN, {V6}),
        ("127.0.0.0/9,::/0", (), None, {V4}),
        ("126.0.0.0/7,::/0", prefixes("126.0.0.0/7"), None, set()),
    ],
)
def test_words_and_cidrs_mix(given, v4, v6, loopback):
    """As in kube-proxy 1.37. Only an entry for loopback itself selects loopback."""
    config, _ = planned(node("192.0.2.1", "fd00::1"), nodeport_addresses=given)

    assert {V4: v4, V6: v6} == config.node_port_prefixes
    assert config.loopback_node_ports == loopback


def test_a_loopback_bind_address_gets_a_warning():
    """The node then has no IP of that family."""
    _, warnings = planned(node("10.0.0.1", "fd00::1"), bind_address="127.0.0.1")

    assert warnings == (
        "bindAddress 127.0.0.1: a loopback address cannot be the node IP; "
        "this node has no IPv4 node IP",
    )


@pytest.mark.parametrize(
    ("given", "v4", "v6", "warned"),
    [
        ("10.0.0.0/8,fd00::/8", prefixes("10.0.0.0/8"), prefixes("fd00::/8"), []),
        ("10.1.2.3/8, fd00::1/8", prefixes("10.0.0.0/8"), prefixes("fd00::/8"), []),
        ("10.0.0.0/8,10.1.0.0/16,::/0", prefixes("10.0.0.0/8"), None, []),
        ("10.0.0.0/9,10.128.0.0/9,::/0", prefixes("10.0.0.0/8"), None, []),
        ("0.0.0.0/0,10.0.0.0/8,fd00::/8", None, prefixes("fd00::/8"), []),
        ("0.0.0.0/1,128.0.0.0/1,::/0", None, None, []),
        ("10.0.0.0/8", prefixes("10.0.0.0/8"), None, ["no IPv6 CIDR"]),
        ("fd00::/8", None, prefixes("fd00::/8"), ["no IPv4 CIDR"]),
        ("127.0.0.0/8,::/0", (), None, []),
        ("127.0.0.1/32,10.0.0.0/8,::1/128,fd00::/8", prefixes("10.0.0.0/8"), prefixes("fd00::/8"),
         []),
        ("126.0.0.0/7,::/0", prefixes("126.0.0.0/7"), None, []),
    ],
)  # fmt: skip
def test_node_port_cidrs_become_disjoint_prefixes(given, v4, v6, warned):
    """/0 and a family without a CIDR mean everywhere; only loopback CIDRs mean nowhere."""
    config, warnings = planned(node("192.0.2.1"), nodeport_addresses=given)

    assert {V4: v4, V6: v6} == config.node_port_prefixes
    assert len(warned) == len(warnings)
    for words, warning in zip(warned, warnings, strict=True):
        assert words in warning


@pytest.mark.parametrize("is_on", [True, False])
def test_loopback_entries_have_no_effect_with_the_gate_off(is_on: bool):
    """A warning says so then; the gate also decides whether loopback addresses reject."""
    gates = f"KubeProxyNFTablesLocalhostNodePorts={str(is_on).lower()}"
    given = "primary,127.0.0.1/32"
    config, warnings = planned(node("192.0.2.1"), nodeport_addresses=given, feature_gates=gates)

    assert config.rejects_loopback is is_on
    assert config.loopback_node_ports == {V4}
    assert [text.partition(";")[0] for text in warnings] == (
        [] if is_on else ["nodePortAddresses: 127.0.0.1/32 is skipped"]
    )


V4_PREFIXES = st.tuples(st.binary(min_size=4, max_size=4), st.integers(0, 32)).map(
    lambda pair: f"{'.'.join(map(str, pair[0]))}/{pair[1]}"
)


@given(st.lists(V4_PREFIXES, min_size=1, max_size=8), st.binary(min_size=4, max_size=4))
def test_prefixes_never_overlap_and_cover_the_given_cidrs(texts, address):
    """This holds for all CIDRs, in any order."""
    config, _ = planned(node("192.0.2.1"), nodeport_addresses=",".join(texts))

    got = config.node_port_prefixes[V4]
    loopback = parse_prefix("127.0.0.0/8")
    asked = [parse_prefix(text) for text in texts]
    hits = 1 if got is None else sum(address in prefix for prefix in got)
    if got is None:
        assert all(any(edge in p for p in asked) for edge in (bytes(4), b"\xff" * 4))
    elif address not in loopback:
        assert hits == any(address in prefix for prefix in asked)
    assert got is None or all(a.last < b.network for a, b in pairwise(got))


@pytest.mark.parametrize(
    ("cidrs", "expected", "warned"),
    [
        ("10.244.0.0/16", {V4: "10.244.0.0/16"}, False),
        ("fd01::/16,10.244.1.1/16", {V4: "10.244.0.0/16", V6: "fd01::/16"}, False),
        ("fd01::/16", {V6: "fd01::/16"}, True),
        ("", {}, True),
        ("0.0.0.0/0", {V4: "0.0.0.0/0"}, True),
    ],
)
def test_cluster_cidr_mode_knows_pods_by_their_source(cidrs, expected, warned):
    """A family without a CIDR has no detector; for the primary family that is worth a warning."""
    config, warnings = planned(node("10.0.0.1", "fd00::1"), cluster_cidr=cidrs)

    assert {f: parse_prefix(c) for f, c in expected.items()} == config.local_pods.prefixes
    assert config.local_pods.own == {V4: (), V6: ()}
    assert warned == bool(warnings)


def test_cluster_cidr_mode_knows_which_pods_are_this_nodes():
    """
    All ranges of the Node count. In mode NodeCIDR every pod that is recognised is this node's.
    """
    of = node("10.0.0.1", pod_cidrs=["10.244.1.0/24", "10.244.9.0/24", "fd01::/64"])
    config, _ = planned(of, cluster_cidr="10.244.0.0/16,fd01::/16")

    first, second, third = map(parse_prefix, ("10.244.1.0/24", "10.244.9.0/24", "fd01::/64"))
    assert config.local_pods.own == {V4: (first, second), V6: (third,)}
    config, _ = planned(of, detect_local_mode="NodeCIDR")
    assert config.local_pods.own is None


@pytest.mark.parametrize("addresses", [["fd00::1", "10.0.0.1"], ["fd00::1"]])
def test_the_nodes_first_address_makes_the_primary_family(addresses):
    """An IPv6 node needs no IPv4 detector."""
    assert planned(node(*addresses), cluster_cidr="fd01::/16")[1] == ()
    assert "no IPv6 CIDR" in planned(node(*addresses), cluster_cidr="10.0.0.0/8")[1][0]


@pytest.mark.parametrize(
    ("cluster", "addresses", "pods", "said"),
    [
        ("10.244.0.0/16", ["192.0.2.1"], ["10.244.1.0/24"], []),
        ("10.244.0.0/16", ["192.0.2.1"], [], []),
        ("10.244.1.0/24", ["192.0.2.1"], ["10.244.1.0/24"], []),
        ("10.245.0.0/16", ["192.0.2.1"], ["10.244.1.0/24"], ["does not hold this node's podCIDR"]),
        ("10.244.1.0/25", ["192.0.2.1"], ["10.244.1.0/24"], ["does not hold this node's podCIDR"]),
        ("10.0.0.0/8", ["10.0.0.5"], ["10.244.1.0/24"], ["own address 10.0.0.5"]),
        ("10.0.0.0/16", ["10.0.0.5"], ["10.1.1.0/24"], ["own address", "does not hold"]),
        ("0.0.0.0/0", ["192.0.2.1"], ["10.244.1.0/24"], ["0.0.0.0/0 holds every address"]),
        ("10.244.0.0/16,::/0", ["192.0.2.1"], [], ["::/0 holds every address"]),
        ("10.244.0.0/16", ["192.0.2.1"], ["10.244.1.0/24", "fd00:1::/64"], ["no IPv6 CIDR"]),
        ("10.244.0.0/16,fd01::/48", ["192.0.2.1", "fd01::1"], [], ["own address fd01::1"]),
        ("", ["192.0.2.1"], ["10.244.1.0/24"], ["empty"]),
    ],
)
def test_a_cluster_cidr_that_does_not_fit_the_node_is_said(cluster, addresses, pods, said):
    """It misses pods, holds the node, or holds everything."""
    config, warnings = planned(node(*addresses, pod_cidrs=pods), cluster_cidr=cluster)

    assert [words in text for words, text in zip(said, warnings, strict=True)] == [True] * len(said)
    assert config.local_pods_mismatch == (warnings if cluster else ())
    assert all(text.startswith("clusterCIDR: ") for text in warnings)


@pytest.mark.parametrize(
    ("addresses", "gates", "is_said"),
    [
        ("primary,localhost", "NfproxyUDPLocalhostNodePorts=true", False),
        ("::1/128", "NfproxyUDPLocalhostNodePorts=true", False),
        ("primary", "NfproxyUDPLocalhostNodePorts=true", True),
        ("all", "NfproxyUDPLocalhostNodePorts=true", True),
        (
            "localhost",
            "NfproxyUDPLocalhostNodePorts=true,KubeProxyNFTablesLocalhostNodePorts=false",
            True,
        ),
        ("primary", "NfproxyUDPLocalhostNodePorts=false", False),
    ],
)
def test_the_gate_for_udp_on_loopback_needs_a_loopback_entry(addresses, gates, is_said):
    of = node("192.0.2.1")
    _, warnings = planned(of, nodeport_addresses=addresses, feature_gates=gates)

    said = [text for text in warnings if "NfproxyUDPLocalhostNodePorts" in text]
    assert bool(said) is is_said
    assert all("has no effect" in text for text in said)


def test_pod_cidrs_that_hold_the_node_are_said():
    """Mode NodeCIDR has the same trap."""
    of = node("10.244.1.5", pod_cidrs=["10.244.1.0/24"])
    config, (text,) = planned(of, detect_local_mode="NodeCIDR")

    assert "podCIDRs of the Node: 10.244.1.0/24 holds this node's own address" in text
    assert config.local_pods_mismatch == (text,)


def test_node_cidr_mode_knows_pods_by_the_nodes_pod_cidrs():
    """The first of each family; a changed Node gives a changed configuration."""
    cidrs = ["10.244.1.0/24", "10.244.9.0/24", "fd00:1::/64"]
    config, warnings = planned(node("10.0.0.1", pod_cidrs=cidrs), detect_local_mode="NodeCIDR")

    wanted = {V4: parse_prefix("10.244.1.0/24"), V6: parse_prefix("fd00:1::/64")}
    assert LocalPods(wanted) == config.local_pods
    assert warnings == ()


@pytest.mark.parametrize(
    ("of", "message"),
    [(None, "needs the Node object 'n1'"), (node("10.0.0.1"), "Node 'n1' has none")],
)
def test_node_cidr_mode_without_pod_cidrs_says_what_to_do(of, message):
    """A guess would masquerade the wrong packets."""
    with pytest.raises(ConfigError, match=message) as caught:
        planned(of, detect_local_mode="NodeCIDR")

    assert "choose another mode" in str(caught.value)


def test_interface_modes_know_pods_by_where_packets_come_in():
    """Both families have a detector then."""
    bridge, _ = planned(node("10.0.0.1"))
    prefix, _ = planned(
        node("10.0.0.1"),
        detect_local_mode="InterfaceNamePrefix",
        pod_interface_name_prefix="veth",
        cluster_cidr="10.0.0.0/8",
    )

    assert LocalPods(bridge="cni0") == bridge.local_pods
    assert LocalPods(interface_prefix="veth") == prefix.local_pods
    assert prefix.local_pods.exists(V6)


def test_masquerade_settings_and_zone_are_carried_over(configured):
    """The bit becomes a mark; the zone is the Node's."""
    default, _ = planned(node("10.0.0.1", zone="z1"), masquerade_all="true")
    loaded = configured("mode: nftables\nnftables: {masqueradeBit: 31}\nclusterCIDR: 10.0.0.0/8")
    other, _ = node_config(loaded.config, "n1", None)

    assert (default.masquerade_all, default.masquerade_mark, default.zone) == (True, 0x4000, "z1")
    assert (other.masquerade_all, other.masquerade_mark, other.zone) == (False, 0x80000000, "")


@pytest.mark.parametrize("allowed", [True, False])
def test_external_ips_follow_the_feature_gate(allowed):
    """With AllowServiceExternalIPs off, spec.externalIPs is not read."""
    made, _ = planned(feature_gates=f"AllowServiceExternalIPs={str(allowed).lower()}")

    assert made.external_ips is allowed
