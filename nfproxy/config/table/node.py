"""
Settings about the node and its dataplane.
"""

from __future__ import annotations

from functools import partial

from nfproxy.config.kinds import (
    ADDRESS,
    BOOL,
    GATES,
    PATH,
    STRING,
    STRINGS,
    VERSION,
    choice,
    duration,
    integer,
)
from nfproxy.config.setting import Setting, Treatment

MODES = ("nftables", "iptables", "ipvs")
LOCAL_MODES = ("ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix")

_general = partial(Setting, group="General")
GENERAL = (
    _general(
        flag="config",
        kind=PATH,
        beside_file=True,
        for_node=True,
        help="Configuration file: a KubeProxyConfiguration (v1alpha1), YAML or JSON. "
        "With it, flags that have a field there are ignored, except --hostname-override "
        "and the logging flags.",
    ),
    _general(
        flag="write-config-to",
        kind=PATH,
        beside_file=True,
        help="Write the effective configuration to this file and exit.",
    ),
    _general(
        flag="cleanup",
        kind=BOOL,
        flag_default=False,
        beside_file=True,
        help="Remove nfproxy's and kube-proxy's nftables tables and exit; what kube-proxy left in "
        "other modes stays.",
    ),
    _general(
        flag="init-only",
        kind=BOOL,
        flag_default=False,
        beside_file=True,
        help="Set what belongs to the node (sysctls of conntrack), try the kernel, and exit.",
    ),
    _general(
        flag="version",
        kind=VERSION,
        flag_default="false",
        beside_file=True,
        help="Print the version and exit; --version=raw prints all of it.",
    ),
    _general(
        flag="feature-gates",
        field="featureGates",
        kind=GATES,
        for_node=True,
        help="Feature switches, NAME=true or NAME=false. AllowServiceExternalIPs=false "
        "makes external IPs of Services ineffective; others have no effect.",
    ),
    _general(
        flag="proxy-mode",
        field="mode",
        kind=choice(*MODES),
        for_node=True,
        help="Only nftables exists here; iptables, ipvs and an empty value are taken for it.",
    ),
    _general(
        flag="oom-score-adj",
        field="oomScoreAdj",
        kind=integer(-1000, 1000),
        keeps_zero=True,
        help="How readily the kernel kills this process when memory runs out.",
    ),
    _general(
        flag="config-sync-period",
        field="configSyncPeriod",
        kind=duration(minimum=1),
        treatment=Treatment.NOT_NEEDED,
        help="How often kube-proxy goes through its cache again.",
    ),
)

_node = partial(Setting, group="Node")
NODE = (
    _node(
        flag="hostname-override",
        field="hostnameOverride",
        kind=STRING,
        beside_file=True,
        for_node=True,
        help="Name of this node; otherwise the host name. Wins over the file.",
    ),
    _node(
        flag="bind-address",
        field="bindAddress",
        kind=ADDRESS,
        for_node=True,
        help="This node's primary IP, where it is not what the Node object says. Nothing "
        "binds to it; 0.0.0.0 and :: leave the choice to the Node object.",
    ),
    _node(
        flag="nodeport-addresses",
        field="nodePortAddresses",
        kind=STRINGS,
        for_node=True,
        help='Where node ports are accepted: "primary" (the node\'s IPs, the default), or '
        "CIDRs that hold the local addresses meant. A family without a CIDR accepts them "
        "on every local address. Never on loopback.",
    ),
)

_local = partial(Setting, group="Local pods and source NAT")
LOCAL = (
    _local(
        flag="detect-local-mode",
        field="detectLocalMode",
        kind=choice(*LOCAL_MODES),
        for_node=True,
        help="How a packet of a local pod is recognised: source in --cluster-cidr "
        "(ClusterCIDR, the default), source in the node's podCIDRs (NodeCIDR), or the "
        "interface it comes from (BridgeInterface, InterfaceNamePrefix).",
    ),
    _local(
        flag="cluster-cidr",
        field="clusterCIDR",
        kind=STRING,
        for_node=True,
        help="Pods' addresses in ClusterCIDR mode: one CIDR, or one per family with a comma.",
    ),
    _local(
        flag="pod-bridge-interface",
        field="detectLocal.bridgeInterface",
        kind=STRING,
        for_node=True,
        help="Name of the bridge local pods are attached to, in BridgeInterface mode.",
    ),
    _local(
        flag="pod-interface-name-prefix",
        field="detectLocal.interfaceNamePrefix",
        kind=STRING,
        for_node=True,
        help="How names of local pods' interfaces begin, in InterfaceNamePrefix mode.",
    ),
    _local(
        flag="masquerade-all",
        field="nftables.masqueradeAll",
        kind=BOOL,
        for_node=True,
        help="Masquerade all traffic to cluster IPs, whoever sends it.",
    ),
    _local(
        field="nftables.masqueradeBit",
        kind=integer(0, 31),
        keeps_zero=True,
        help="Bit of the packet mark that asks for masquerading.",
    ),
)

_sync = partial(Setting, group="Synchronisation")
SYNC = (
    _sync(
        flag="iptables-sync-period",
        field="nftables.syncPeriod",
        kind=duration(minimum=1),
        help="Delay before a failed change is tried again; twice as long without success "
        "is unhealthy. Counts in nftables mode, as in kube-proxy.",
    ),
    _sync(
        flag="iptables-min-sync-period",
        field="nftables.minSyncPeriod",
        kind=duration(minimum=0),
        help="Least time between two changes to the kernel; counts in nftables mode as well.",
    ),
)
