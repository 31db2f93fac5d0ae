"""
``KubeProxyConfiguration`` of ``kubeproxy.config.k8s.io/v1alpha1``: every field, with its setting.

Source: kube-proxy 1.36. Attribute names are Python's, encoded names are the API's. Defaults are
kube-proxy's, except ``nftables.minSyncPeriod``. Two ``iptables`` flags set fields of ``nftables``,
as they do in kube-proxy.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated

import msgspec

from nfproxy.config.componentbase import ClientConnection, Logging
from nfproxy.config.durations import Duration
from nfproxy.config.othermodes import IPVS, IPTables, Winkernel
from nfproxy.config.setting import Block, Group, Setting, Treatment
from nfproxy.config.valuetypes import ADDRESS, ADDRESS_PORT, choice, duration, integer
from nfproxy.yaml import dump

API_VERSION = "kubeproxy.config.k8s.io/v1alpha1"
KIND = "KubeProxyConfiguration"
MODES = ("nftables", "iptables", "ipvs")
EXTERNAL_IPS_GATE = "AllowServiceExternalIPs"
LOCALHOST_NODE_PORTS_GATE = "KubeProxyNFTablesLocalhostNodePorts"  # KEP-6032
ROUTER_GATE = "LoadBalancerIPModeRouter"  # KEP-6272

#: Gates of kube-proxy up to 1.38 that need no warning: those with an effect, and those that a
#: cluster may set for every component and that have nothing to switch in nfproxy.
KNOWN_GATES = frozenset(
    {
        EXTERNAL_IPS_GATE,
        LOCALHOST_NODE_PORTS_GATE,
        ROUTER_GATE,
        "KubeProxyIPVS",
        "ManagedFieldsOptOut",
        "NFTablesNetlink",
        "NativeHistograms",
    }
)
LOCAL_MODES = ("ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix")

_MINUTE, _HOUR = 60, 3600
_NOT_NEEDED = Treatment.NOT_NEEDED

_general = partial(Setting, group=Group.GENERAL)
_node = partial(Setting, group=Group.NODE, for_node=True)
_local_pods = partial(Setting, group=Group.LOCAL_PODS, for_node=True)
_servers = partial(Setting, group=Group.SERVERS)
_conntrack = partial(Setting, group=Group.CONNTRACK)


class NFTables(Block, frozen=True):
    """
    ``nftables``: the block of the mode that nfproxy implements.

    kube-proxy's default of `min_sync_period` is 1 s, because a sync takes it that long.
    """

    masquerade_all: Annotated[
        bool,
        _local_pods(
            flag="masquerade-all",
            help="Masquerade all traffic to cluster IPs, whatever its source.",
        ),
    ] = False
    masquerade_bit: Annotated[
        int,
        _local_pods(
            type=integer(0, 31),
            keeps_zero=True,
            help="Bit of the packet mark that asks for masquerading.",
        ),
    ] = 14
    sync_period: Annotated[
        Duration,
        Setting(
            group=Group.SYNC,
            flag="iptables-sync-period",
            type=duration(minimum=1),
            help="Longest delay before a failed sync is tried again; a node without success for "
            "twice as long is unhealthy. Counts in nftables mode, as in kube-proxy.",
        ),
    ] = Duration.of(30)
    min_sync_period: Annotated[
        Duration,
        Setting(
            group=Group.SYNC,
            flag="iptables-min-sync-period",
            type=duration(minimum=0),
            help="Least time between two changes to the kernel; counts in nftables mode as well.",
        ),
    ] = Duration.of(0.05)


class DetectLocal(Block, frozen=True):
    """``detectLocal``: parameters of the two interface modes."""

    bridge_interface: Annotated[
        str,
        _local_pods(
            flag="pod-bridge-interface",
            help="Name of the bridge local pods are attached to, in BridgeInterface mode.",
        ),
    ] = ""
    interface_name_prefix: Annotated[
        str,
        _local_pods(
            flag="pod-interface-name-prefix",
            help="How names of local pods' interfaces begin, in InterfaceNamePrefix mode.",
        ),
    ] = ""


class Conntrack(Block, frozen=True):
    """``conntrack``: sysctls written at start; zero leaves the sysctl as it is."""

    max_per_core: Annotated[
        int,
        _conntrack(
            flag="conntrack-max-per-core",
            type=integer(0),
            keeps_zero=True,
            help="Tracked connections per CPU; 0 leaves the limit as it is.",
        ),
    ] = 32768
    min: Annotated[
        int,
        _conntrack(
            flag="conntrack-min",
            type=integer(0),
            keeps_zero=True,
            help="Least number of tracked connections to allow.",
        ),
    ] = 131072
    tcp_established_timeout: Annotated[
        Duration,
        _conntrack(
            flag="conntrack-tcp-timeout-established",
            type=duration(minimum=0),
            keeps_zero=True,
            help="Idle time after which the kernel forgets a TCP connection; 0 leaves it as it is.",
        ),
    ] = Duration.of(24 * _HOUR)
    tcp_close_wait_timeout: Annotated[
        Duration,
        _conntrack(
            flag="conntrack-tcp-timeout-close-wait",
            type=duration(minimum=0),
            keeps_zero=True,
            help="The same in state CLOSE_WAIT; 0 leaves it as it is.",
        ),
    ] = Duration.of(_HOUR)
    tcp_be_liberal: Annotated[
        bool,
        _conntrack(
            flag="conntrack-tcp-be-liberal",
            help="Do not mark TCP packets outside the window as invalid.",
        ),
    ] = False
    udp_timeout: Annotated[
        Duration,
        _conntrack(
            flag="conntrack-udp-timeout",
            type=duration(minimum=0),
            help="Idle time of a UDP flow without an answer; 0 leaves it as it is.",
        ),
    ] = Duration(0)
    udp_stream_timeout: Annotated[
        Duration,
        _conntrack(
            flag="conntrack-udp-timeout-stream",
            type=duration(minimum=0),
            help="Idle time of a UDP flow with answers; 0 leaves it as it is.",
        ),
    ] = Duration(0)


class KubeProxyConfiguration(Block, frozen=True):
    """The whole configuration; without arguments, the defaults."""

    api_version: str = API_VERSION
    kind: str = KIND
    feature_gates: Annotated[
        dict[str, bool],
        _general(
            flag="feature-gates",
            for_node=True,
            help="Feature switches, NAME=true or NAME=false. AllowServiceExternalIPs=false makes "
            "nfproxy ignore external IPs of Services; others have no effect.",
        ),
    ] = msgspec.field(default_factory=dict)
    client_connection: ClientConnection = ClientConnection()
    logging: Logging = Logging()
    mode: Annotated[
        str,
        _general(
            flag="proxy-mode",
            type=choice(*MODES),
            for_node=True,
            help="iptables, ipvs and an empty value mean nftables, the only mode of nfproxy.",
        ),
    ] = ""
    oom_score_adj: Annotated[
        int,
        _general(
            flag="oom-score-adj",
            type=integer(-1000, 1000),
            keeps_zero=True,
            help="How readily the kernel kills this process when memory runs out.",
        ),
    ] = -999
    config_sync_period: Annotated[
        Duration,
        _general(
            flag="config-sync-period",
            type=duration(minimum=1),
            treatment=_NOT_NEEDED,
            help="How often kube-proxy goes through its cache again.",
        ),
    ] = Duration.of(15 * _MINUTE)
    hostname_override: Annotated[
        str,
        _node(
            flag="hostname-override",
            overrides_file=True,
            help="Name of this node's Node object; otherwise the host name. Wins over the file.",
        ),
    ] = ""
    bind_address: Annotated[
        str,
        _node(
            flag="bind-address",
            type=ADDRESS,
            help="This node's primary IP, in place of the Node object's. nfproxy does not listen "
            "there; 0.0.0.0 and :: leave the choice to the Node object.",
        ),
    ] = "0.0.0.0"  # noqa: S104 - kube-proxy's default; nothing binds to it
    node_port_addresses: Annotated[
        tuple[str, ...],
        _node(
            flag="nodeport-addresses",
            help="Where node ports are accepted: CIDRs that contain the local addresses to use, "
            'and the words "primary" (the node\'s IPs, the default), "all" and "localhost", in any '
            "mix. A family without an entry accepts them on every local address. Loopback "
            "addresses accept TCP where an entry names them.",
        ),
    ] = ()
    detect_local_mode: Annotated[
        str,
        _local_pods(
            flag="detect-local-mode",
            type=choice(*LOCAL_MODES),
            help="How to recognise a packet of a local pod: source in --cluster-cidr (ClusterCIDR, "
            "the default), source in the node's podCIDRs (NodeCIDR), or the interface it comes "
            "from (BridgeInterface, InterfaceNamePrefix).",
        ),
    ] = ""
    cluster_cidr: Annotated[
        str,
        _local_pods(
            flag="cluster-cidr",
            help="Pods' addresses in ClusterCIDR mode: one CIDR, or one per family with a comma.",
        ),
    ] = msgspec.field(default="", name="clusterCIDR")
    detect_local: DetectLocal = DetectLocal()
    nftables: NFTables = NFTables()
    healthz_bind_address: Annotated[
        str,
        _servers(
            flag="healthz-bind-address",
            type=ADDRESS_PORT,
            help="Address of the health server; without a port, 10256.",
        ),
    ] = "0.0.0.0:10256"
    metrics_bind_address: Annotated[
        str,
        _servers(
            flag="metrics-bind-address",
            type=ADDRESS_PORT,
            help="Address of the metrics server; without a port, 10249.",
        ),
    ] = "127.0.0.1:10249"
    bind_address_hard_fail: Annotated[
        bool,
        _servers(
            flag="bind-address-hard-fail",
            help="Exit if the health or metrics server cannot listen, instead of trying again.",
        ),
    ] = False
    enable_profiling: Annotated[
        bool,
        _servers(
            flag="profiling",
            treatment=_NOT_NEEDED,
            help="Profiles of the Go runtime on the metrics port.",
        ),
    ] = False
    show_hidden_metrics_for_version: Annotated[
        str,
        _servers(
            flag="show-hidden-metrics-for-version",
            treatment=_NOT_NEEDED,
            help="Version whose hidden metrics to show; nfproxy hides none.",
        ),
    ] = ""
    conntrack: Conntrack = Conntrack()
    iptables: IPTables = IPTables()
    ipvs: IPVS = IPVS()
    winkernel: Winkernel = Winkernel()
    windows_run_as_service: Annotated[
        bool,
        Setting(
            group=Group.WINDOWS, treatment=Treatment.OTHER_MODE, help="Run as a Windows service."
        ),
    ] = False
    port_range: Annotated[
        str,
        Setting(
            group=Group.UNUSED, treatment=_NOT_NEEDED, help="Left over from the userspace mode."
        ),
    ] = ""

    @property
    def allows_external_ips(self) -> bool:
        """Return whether nfproxy serves external IPs of Services (gate AllowServiceExternalIPs)."""
        return self.feature_gates.get(EXTERNAL_IPS_GATE, True)

    @property
    def serves_localhost_node_ports(self) -> bool:
        """Return whether gate KubeProxyNFTablesLocalhostNodePorts is on, as in Kubernetes 1.38."""
        return self.feature_gates.get(LOCALHOST_NODE_PORTS_GATE, True)

    @property
    def routes_ingress(self) -> bool:
        """Return whether ``ipMode: Router`` counts (gate LoadBalancerIPModeRouter)."""
        return self.feature_gates.get(ROUTER_GATE, False)


def write_config(config: KubeProxyConfiguration) -> str:
    """
    Return the configuration as a v1alpha1 YAML document, keys sorted as kube-proxy does.

    Read back it gives the same configuration.
    """
    data = msgspec.to_builtins(config, enc_hook=str)
    return dump(data, sort_keys=True)
