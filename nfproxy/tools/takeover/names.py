"""
The names that kube-proxy gives (Kubernetes 1.36 and before), and which similar ones are not its.
"""

from __future__ import annotations

import re

from nfproxy.model.addresses import Family
from nfproxy.model.service import Protocol

#: Chains by table. KUBE-FIREWALL, KUBE-IPTABLES-HINT and KUBE-KUBELET-CANARY are kubelet's.
CHAINS = {
    "nat": frozenset(
        (
            *("KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-MARK-MASQ"),
            *("KUBE-PROXY-CANARY", "KUBE-NODE-PORT", "KUBE-LOAD-BALANCER"),
        )
    ),
    "filter": frozenset(
        (
            *("KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-FORWARD", "KUBE-NODEPORTS"),
            *("KUBE-PROXY-FIREWALL", "KUBE-PROXY-CANARY", "KUBE-NODE-PORT"),
            *("KUBE-SOURCE-RANGES-FIREWALL", "KUBE-IPVS-FILTER", "KUBE-IPVS-OUT-FILTER"),
        )
    ),
    "mangle": frozenset(("KUBE-PROXY-CANARY",)),
}

#: Chains of a service port or endpoint, in nat: a prefix and a hash. Others use such prefixes, too.
_SERVICE_CHAIN = re.compile(r"(KUBE-(?:SVC|SVL|SEP|FW|EXT|XLB)-)[A-Z2-7]{16}")

#: Comments of the rules that lead from the kernel's chains to kube-proxy's.
JUMP_COMMENTS = frozenset(
    (
        "kubernetes service portals",
        "kubernetes externally-visible service portals",
        "kubernetes postrouting rules",
        "kubernetes forwarding rules",
        "kubernetes health check service ports",
        "kubernetes health check rules",
        "kubernetes load balancer firewall",
        "kube-proxy firewall rules",
        "kubernetes ipvs access filter",
    )
)

#: The kernel's chains, from which rules lead to kube-proxy's.
BUILT_IN = frozenset(("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"))

#: The chains that translate service traffic: without their rules kube-proxy gets no new connection.
ENTRY_POINTS = frozenset((("nat", "PREROUTING"), ("nat", "OUTPUT")))

#: This chain only sets the mark for masquerading, by which nfproxy masquerades, too. The portmap
#: CNI plugin can be configured to use it (externalSetMarkChain).
MARK_CHAIN = "KUBE-MARK-MASQ"

#: The device that holds all virtual addresses in ipvs mode.
IPVS_DEVICE = "kube-ipvs0"

_NODE_PORT_SETS = {
    Protocol.TCP: ("NODE-PORT-TCP", "NODE-PORT-LOCAL-TCP"),
    Protocol.UDP: ("NODE-PORT-UDP", "NODE-PORT-LOCAL-UDP"),
    Protocol.SCTP: ("NODE-PORT-SCTP-HASH", "NODE-PORT-LOCAL-SCTP-HASH"),
}
_SETS = (
    *("LOOP-BACK", "CLUSTER-IP", "EXTERNAL-IP", "EXTERNAL-IP-LOCAL"),
    *("LOAD-BALANCER", "LOAD-BALANCER-FW", "LOAD-BALANCER-LOCAL"),
    *("LOAD-BALANCER-SOURCE-IP", "LOAD-BALANCER-SOURCE-CIDR"),
    *(name for names in _NODE_PORT_SETS.values() for name in names),
    *("HEALTH-CHECK-NODE-PORT", "IPVS-IPS"),
)
_SET_PREFIX = {Family.IPV4: "KUBE-", Family.IPV6: "KUBE-6-"}
_SET_NAME_LENGTH = 31  # IPSET_MAXNAMELEN, less the closing zero


def _set_name(family: Family, name: str) -> str:
    return f"{_SET_PREFIX[family]}{name}"[:_SET_NAME_LENGTH]


#: All ipsets of ipvs mode, of both families.
IPSETS = frozenset(_set_name(family, name) for family in _SET_PREFIX for name in _SETS)


#: The ipsets that hold kube-proxy's node ports: of which family and protocol.
NODE_PORT_SETS = {
    _set_name(family, name): (family, protocol)
    for family in _SET_PREFIX
    for protocol, names in _NODE_PORT_SETS.items()
    for name in names
}

#: Counters that iptables mode makes for its metrics.
NFACCT = frozenset(("ct_state_invalid_dropped_pkts", "localhost_nps_accepted_pkts"))


def is_chain(table: str, name: str) -> bool:
    """Return whether a chain of an iptables table is kube-proxy's."""
    if name in CHAINS.get(table, ()):
        return True
    return table == "nat" and _SERVICE_CHAIN.fullmatch(name) is not None


def is_jump(table: str, source: str, target: str, comment: str) -> bool:
    """
    Return whether kube-proxy made a rule that leads from one chain to another.

    The comment decides: a rule without one of kube-proxy's comments belongs to other software.
    """
    return source in BUILT_IN and is_chain(table, target) and comment in JUMP_COMMENTS


def listed_name(name: str) -> str:
    """Return the name under which a chain is listed: those of single Services share a pattern."""
    match = _SERVICE_CHAIN.fullmatch(name)
    return f"{match[1]}*" if match else name
