"""What is removed from a table, in which order, and what stays."""

import pytest

from nfproxy.model.addresses import Family
from nfproxy.tools.takeover.legacy import deletion, read_rule, read_table
from nfproxy.tools.takeover.tables import accept_command, forward_remedies, plan_table

NAT = """\
*nat
:PREROUTING ACCEPT [7:420]
:POSTROUTING ACCEPT [0:0]
:CNI-DN-a - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-SVC-K6DFPUR2VHBLU6EI - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A PREROUTING -s 10.9.0.0/16 -g KUBE-SVC-K6DFPUR2VHBLU6EI
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A CNI-DN-a -j KUBE-MARK-MASQ
-A KUBE-SERVICES -d 10.96.0.10/32 -j KUBE-SVC-K6DFPUR2VHBLU6EI
COMMIT
"""


def plan(text, name="nat"):
    """Return the plan for a table as iptables-legacy-save prints it."""
    return plan_table(read_table(Family.IPV4, name, text))


def test_entry_points_go_first():
    """A packet on its way still finds its masquerading."""
    made = plan(NAT)

    assert [rule.chain for rule in made.entries] == ["PREROUTING"]
    assert [rule.chain for rule in made.jumps] == ["POSTROUTING"]
    assert deletion(made.jumps[0]) == (
        '-D POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING'
    )


def test_chains_that_others_use_stay():
    """
    They are emptied, which ends their effect; only the chain that sets the mark keeps its rules.
    """
    made = plan(NAT)

    assert {"KUBE-POSTROUTING", "KUBE-SERVICES"} == set(made.delete)
    assert {*made.delete, "KUBE-SVC-K6DFPUR2VHBLU6EI"} == set(made.flush)
    assert {"KUBE-SVC-K6DFPUR2VHBLU6EI", "KUBE-MARK-MASQ"} == {r.target for r in made.foreign}


def test_tables_without_chains_of_kube_proxy_stay_as_they_are():
    """The kubelet's chains and rules stay."""
    text = (
        ":INPUT ACCEPT [0:0]\n:KUBE-FIREWALL - [0:0]\n"
        '-A INPUT -m comment --comment "kubernetes firewall" -j KUBE-FIREWALL\n'
    )

    assert not plan(text, "filter")


@pytest.mark.parametrize(
    ("rule", "target", "comment", "plain"),
    [
        ("-A FORWARD -j DROP", "DROP", "", True),
        ("-A FORWARD -j REJECT --reject-with icmp-port-unreachable", "REJECT", "", True),
        ('-A FORWARD -m comment --comment "a -j b" -j DROP', "DROP", "a -j b", True),
        ("-A FORWARD -i eth0 -j DROP", "DROP", "", False),
        ("-A FORWARD -m conntrack --ctstate NEW -j ACCEPT", "ACCEPT", "", False),
        ("-A FORWARD -m statistic --mode random -g MINE", "MINE", "", False),
        ("-A FORWARD -s 10.0.0.1/32", "", "", False),
    ],
)
def test_rules_are_read(rule, target, comment, plain):
    """Target, comment, and whether the rule has conditions."""
    read = read_rule(rule)

    assert (target, comment, plain) == (read.target, read.comment, read.plain)


JUMP = '-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD\n'
OWN = (
    "-A FORWARD -m conntrack --ctstate DNAT "
    '-m comment --comment "nfproxy: service traffic" -j ACCEPT\n'
)


@pytest.mark.parametrize(
    ("policy", "rules", "dropped"),
    [
        ("DROP", JUMP, True),
        ("DROP", JUMP + OWN, False),
        ("DROP", "-A FORWARD -j ACCEPT\n" + JUMP, False),
        ("DROP", "", False),
        ("ACCEPT", JUMP, False),
        ("ACCEPT", JUMP + "-A FORWARD -j DROP\n", True),
        ("ACCEPT", JUMP + "-A FORWARD -i eth1 -j DROP\n", False),
        ("ACCEPT", JUMP + OWN + "-A FORWARD -j REJECT\n", False),
    ],
)
def test_forwarded_packets_that_only_kube_proxy_accepts_need_a_rule(policy, rules, dropped):
    """A later run recognises that rule by its comment."""
    text = f":FORWARD {policy} [0:0]\n:KUBE-FORWARD - [0:0]\n{rules}"
    remedies = forward_remedies([plan(text, "filter")])

    table = plan(text, "filter").table
    assert ([accept_command(table.backend, Family.IPV4)] if dropped else []) == remedies
