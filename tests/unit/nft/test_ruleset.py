"""The text that templates become."""

import itertools
import re

import pytest

from nfproxy.errors import ConfigError
from nfproxy.model.addresses import FAMILIES, Family, parse_prefix
from nfproxy.model.nodeconfig import LocalPods, NodeConfig, ProgramConfig
from nfproxy.model.service import Protocol
from nfproxy.nft import ruleset
from nfproxy.nft.chains import BASE_CHAINS, FIXED_CHAINS, Policy, Shape

V4, V6 = Family.IPV4, Family.IPV6
CONFIG = NodeConfig(node_name="node-1")


def config(**pods: str) -> NodeConfig:
    return NodeConfig(node_name="node-1", local_pods=LocalPods(**pods))


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            "a" * 16,
            'x"',
            "x;y",
            "x\ny",
            "x y",
            "x*",
            "../x",
            "-x",
            "é",
            "x{",
            "$x",
            "x\0",
            "@set",
        ),
    ],
)
@pytest.mark.parametrize("kind", ["bridge", "interface_prefix"])
def test_an_interface_name_that_could_end_its_quotes_is_refused(kind: str, name: str):
    """The only text that gets from the configuration into the ruleset is checked."""
    pods = LocalPods(**{kind: name or "\x7f"})

    with pytest.raises(ConfigError, match="interface name"):
        ruleset.local_pod_match(NodeConfig(node_name="n", local_pods=pods).program, V4)


@pytest.mark.parametrize("name", ["cni0", "veth", "br-1234567890ab", "eth0.100", "a@b_c", "_br"])
def test_usual_interface_names_are_accepted(name: str):
    """Up to 15 characters, as the kernel has it."""
    assert ruleset.local_pod_match(config(bridge=name).program, V6) == (
        f'iifname "{name}"',
        f'iifname != "{name}"',
    )
    wildcard = "*" if len(name) < 15 else ""  # nothing can follow, and nft has no room for it
    pattern = f'iifname "{name}{wildcard}"'
    assert ruleset.local_pod_match(config(interface_prefix=name).program, V6)[0] == pattern


def test_pods_are_recognised_by_prefix_in_its_family_only():
    """The other family has no detector."""
    pods = LocalPods(prefixes={V4: parse_prefix("10.244.0.0/16")})
    node = NodeConfig(node_name="n", local_pods=pods)

    assert ruleset.local_pod_match(node.program, V4) == (
        "ip saddr 10.244.0.0/16",
        "ip saddr != 10.244.0.0/16",
    )
    assert ruleset.local_pod_match(node.program, V6) == ("", "")


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (None, ""),
        ([], "ip saddr 10.244.0.0/16"),
        (["10.244.1.0/24"], "ip saddr 10.244.0.0/16 ip saddr != 10.244.1.0/24"),
        (
            ["10.244.1.0/24", "10.244.9.0/24"],
            "ip saddr 10.244.0.0/16 ip saddr != 10.244.1.0/24 ip saddr != 10.244.9.0/24",
        ),
        (["10.244.0.0/16"], ""),
        (["10.244.0.0/17", "10.244.128.0/17"], ""),
        (["10.0.0.0/8"], ""),
    ],
)
def test_pods_of_other_nodes_are_those_of_the_cluster_that_are_not_of_this_node(own, expected):
    """Only mode ClusterCIDR takes them for local ones."""
    ranges = None if own is None else {V4: tuple(map(parse_prefix, own))}
    pods = LocalPods(prefixes={V4: parse_prefix("10.244.0.0/16")}, own=ranges)
    node = NodeConfig(node_name="n", local_pods=pods)

    assert ruleset.far_pod_match(node.program, V4) == expected
    assert ruleset.far_pod_match(node.program, V6) == ""


@pytest.mark.parametrize("family", FAMILIES)
def test_sets_are_declared_by_typeof_and_no_other_way(family: Family):
    """What newer nft records for `type` makes older nft crash."""
    text = ruleset.table_text(CONFIG.program, family)
    blocks = re.findall(r"\t(?:set|map) \S+ \{\n(.*?)\n\t\}", text, re.DOTALL)

    assert blocks
    assert all(re.search(r"(?m)^\t\ttypeof ", block) for block in blocks)
    assert set(re.findall(r"\btype \S+", text)) == {"type nat", "type local", "type !="}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_fixed_chains_are_those_of_the_template(family: Family):
    """Base chains are the ones with a hook."""
    text = ruleset.table_text(CONFIG.program, family)

    assert tuple(re.findall(r"\tchain (\S+) \{", text)) == FIXED_CHAINS
    assert set(re.findall(r"\tchain (\S+) \{\n\t\ttype ", text)) == set(BASE_CHAINS)


def test_node_ports_are_checked_against_ranges_only_where_there_are_some():
    """None means every local address."""
    some = NodeConfig(node_name="n", node_port_prefixes={V4: (parse_prefix("10.0.0.0/8"),)})

    assert "ip daddr @node-port-addresses" in ruleset.table_text(some.program, V4)
    assert "@node-port-addresses" not in ruleset.table_text(some.program, V6)
    assert "@node-port-addresses" not in ruleset.table_text(CONFIG.program, V4)


def test_only_our_own_bit_of_the_packet_mark_is_touched():
    """Other components' bits are left alone: set by or, cleared by xor where it was set."""
    node = NodeConfig(node_name="n", masquerade_mark=0x20)
    text = ruleset.table_text(node.program, V4)
    shape = ruleset.chain_text(Shape(Policy.EXTERNAL, Protocol.TCP, cluster=1), node.program, V4)

    assert "meta mark & 0x00000020 != 0 meta mark set meta mark ^ 0x00000020 masquerade" in text
    assert "meta mark set meta mark | 0x00000020" in shape


SOURCES = [
    ("cluster", False, "", None),
    ("cluster", True, "", "always"),
    ("external", False, "", "always"),
    ("external", False, "br", "always"),
    ("cluster", False, "br", "not pods"),
    ("cluster", True, "br", "always"),
    ("local", False, "br", "node but not pods"),
    ("local", False, "", "node"),
]


@pytest.mark.parametrize(("policy", "every", "bridge", "expected"), SOURCES)
def test_who_is_masqueraded(policy: str, every: bool, bridge: str, expected: str | None):
    """The cases of kube-proxy: by policy, masqueradeAll, and whether local pods are known."""
    node = NodeConfig(node_name="n", masquerade_all=every, local_pods=LocalPods(bridge=bridge))
    shape = Shape(Policy(policy), Protocol.TCP, cluster=2, local=1 if policy == "local" else 0)
    rules = [
        r.strip() for r in ruleset.chain_text(shape, node.program, V4).splitlines() if "mark" in r
    ]
    matches = {
        None: [],
        "always": [""],
        "not pods": ['iifname != "br" '],
        "node but not pods": ['iifname != "br" fib saddr type local '],
        "node": ["fib saddr type local "],
    }

    assert [f"{m}meta mark set meta mark | 0x00004000" for m in matches[expected]] == rules


def test_every_balancing_chain_ends_with_a_drop():
    """
    A look-up that misses ends its rule and not the packet; none leaves with a service's address.
    """
    for policy, protocol in itertools.product(
        (Policy.CLUSTER, Policy.EXTERNAL, Policy.LOCAL), Protocol
    ):
        shape = Shape(policy, protocol, cluster=2, local=0)
        rules = ruleset.chain_text(shape, CONFIG.program, V4).split("\n")
        reason = "no-local" if policy is Policy.LOCAL else "empty-slot"
        assert rules[-3:-1] == [f'\t\tcounter name "refused-{reason}" drop', "\t}"]


def test_chains_stand_in_a_table_as_people_write_them():
    """One tab for a chain, two for a rule."""
    text = ruleset.replacement_text(
        CONFIG.program, V4, [Shape(Policy.CLUSTER, Protocol.TCP, cluster=2)]
    )

    assert "\n\n\tchain cluster-tcp-2 {\n\t\tdnat ip to" in text
    assert text.endswith("\n\t}\n}\n")


def test_every_field_of_the_program_configuration_changes_the_text():
    """A new field belongs here. One that no text depends on would load the program for nothing."""
    changed = {
        "local_pods": LocalPods(bridge="cni0"),
        "masquerade_all": True,
        "masquerade_mark": 0x1,
        "node_ports_everywhere": frozenset[Family](),
        "rejects_loopback": True,
    }
    assert set(changed) == set(ProgramConfig.__struct_fields__)
    shapes = [Shape(Policy.CLUSTER, Protocol.TCP, cluster=1)]
    before = ruleset.program_text(ProgramConfig(), V4, shapes)
    for name, value in changed.items():
        assert before != ruleset.program_text(ProgramConfig(**{name: value}), V4, shapes), name
