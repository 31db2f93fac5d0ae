"""
What other processes do to nfproxy's tables: one nft script for each kind of change.

A script is one transaction. The names in it are those of a cluster with TCP Services of ten
endpoints each; `ADDRESS` is the cluster IP of one of them, on port 80. THEIRS stands for a name.
"""

from itertools import count

ADDRESS = "10.96.0.10"
_FRONTEND = f"{{ {ADDRESS} . tcp . 80 }}"
_SLOT = f"{{ {ADDRESS} . 80 . 0 }}"
_ELSEWHERE = f"{{ {ADDRESS} . 80 . 0 : 192.0.2.9 . 80 }}"

KINDS = {
    # tables
    "flush the ruleset": "flush ruleset",
    "delete a table": "delete table ip nfproxy",
    "delete both tables": "delete table ip nfproxy\ndelete table ip6 nfproxy",
    "flush a table": "flush table ip nfproxy",
    "switch a table off": "add table ip nfproxy { flags dormant; }",
    "replace a table": "delete table ip nfproxy\nadd table ip nfproxy",
    # chains
    "delete a base chain": "flush chain ip nfproxy nat-prerouting\n"
    "delete chain ip nfproxy nat-prerouting",
    "delete the base chain for source NAT": "flush chain ip nfproxy nat-postrouting\n"
    "delete chain ip nfproxy nat-postrouting",
    "delete a late base chain": "flush chain ip nfproxy nat-output-late\n"
    "delete chain ip nfproxy nat-output-late",
    "change a base chain's policy": "chain ip nfproxy nat-prerouting { policy drop; }",
    "change the last base chain's policy": "chain ip nfproxy nat-postrouting { policy drop; }",
    "rename a fixed chain": "rename chain ip nfproxy services THEIRS",
    "rename a base chain": "rename chain ip nfproxy nat-output THEIRS",
    "rename a balancing chain": "rename chain ip nfproxy cluster-tcp-10 THEIRS",
    "add a chain": "add chain ip nfproxy THEIRS",
    "add a chain with rules": "add chain ip nfproxy THEIRS\nadd rule ip nfproxy THEIRS drop",
    "add a base chain that drops": "add chain ip nfproxy THEIRS "
    "{ type filter hook forward priority 0; policy drop; }",
    "add a base chain that comes first": "add chain ip nfproxy THEIRS "
    "{ type nat hook prerouting priority -150; }\nadd rule ip nfproxy THEIRS accept",
    # rules
    "flush a fixed chain": "flush chain ip nfproxy services",
    "flush a base chain": "flush chain ip nfproxy nat-prerouting",
    "flush a balancing chain": "flush chain ip nfproxy cluster-tcp-10",
    "flush the chain for hairpins": "flush chain ip nfproxy masquerade-hairpin",
    "insert a rule that drops": "insert rule ip nfproxy services drop",
    "insert a rule that accepts": "insert rule ip nfproxy nat-prerouting accept",
    "insert a rule that rejects": "insert rule ip nfproxy cluster-tcp-10 reject",
    "add a rule": "add rule ip nfproxy cluster-tcp-10 counter",
    "lead a rule to a chain of theirs": "add chain ip nfproxy THEIRS\n"
    "insert rule ip nfproxy services jump THEIRS",
    # sets, maps and objects
    "add a set": "add set ip nfproxy THEIRS { typeof ip saddr; }",
    "add a map": "add map ip nfproxy THEIRS { typeof ip saddr : verdict; }",
    "add a counter": "add counter ip nfproxy THEIRS",
    "add a quota": "add quota ip nfproxy THEIRS { over 1 mbytes; }",
    "flush the frontends": "flush map ip nfproxy frontends",
    "flush the endpoints": "flush map ip nfproxy endpoints-tcp",
    "flush the cluster IPs": "flush set ip nfproxy cluster-ips",
    "flush the pairs of hashes": "flush set ip nfproxy equal-hashes",
    # elements
    "delete a frontend": f"delete element ip nfproxy frontends {_FRONTEND}",
    "delete an endpoint": f"delete element ip nfproxy endpoints-tcp {_SLOT}",
    "delete a cluster IP": f"delete element ip nfproxy cluster-ips {{ {ADDRESS} }}",
    "replace a frontend": f"delete element ip nfproxy frontends {_FRONTEND}\n"
    f"add element ip nfproxy frontends {{ {ADDRESS} . tcp . 80 : drop }}",
    "replace an endpoint": f"delete element ip nfproxy endpoints-tcp {_SLOT}\n"
    f"add element ip nfproxy endpoints-tcp {_ELSEWHERE}",
    "add a frontend": "add element ip nfproxy frontends { 192.0.2.7 . tcp . 80 : drop }",
    "add an endpoint": "add element ip nfproxy endpoints-tcp "
    "{ 192.0.2.7 . 80 . 0 : 192.0.2.9 . 80 }",
    "add a cluster IP": "add element ip nfproxy cluster-ips { 192.0.2.7 }",
    "flush the addresses for node ports": "flush set ip nfproxy node-port-addresses",
    "add a service range": "add element ip nfproxy service-cidrs { 0.0.0.0/0 }",
    "lead an element to a chain of theirs": "add chain ip nfproxy THEIRS\n"
    "add element ip nfproxy frontends { 192.0.2.7 . tcp . 80 : goto THEIRS }",
}

_number = count(1)


def script(kind: str) -> str:
    """Return the script of a kind of change, with a name that no other change has."""
    return KINDS[kind].replace("THEIRS", f"theirs-{next(_number)}")
