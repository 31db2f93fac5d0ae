"""
``KubeProxyConfiguration`` of ``kubeproxy.config.k8s.io/v1alpha1``: every field, with its setting.

Source: kube-proxy 1.36. Attribute names are Python's, encoded names are the API's. Defaults are
kube-proxy's, except ``nftables.minSyncPeriod``. Two ``iptables`` flags set fields of ``nftables``,
as they do in kube-proxy.
"""

from __future__ import annotations

from nfproxy.config.componentbase import ClientConnection, Logging
from nfproxy.config.durations import Duration
from nfproxy.config.othermodes import IPVS, IPTables, Winkernel
from nfproxy.config.setting import Block, Group, Settings, Treatment
from nfproxy.config.valuetypes import ADDRESS, ADDRESS_PORT, choice, duration, integer

API_VERSION = "kubeproxy.config.k8s.io/v1alpha1"
KIND = "KubeProxyConfiguration"
MODES = ("nftables", "iptables", "ipvs")
EXTERNAL_IPS_GATE = "AllowServiceExternalIPs"
LOCALHOST_NODE_PORTS_GATE = "KubeProxyNFTablesLocalhostNodePorts"  # KEP-6032
ROUTER_GATE = "LoadBalancerIPModeRouter"  # KEP-6272
UDP_GATE = "NfproxyUDPLocalhostNodePorts"  # our own
_ALL_ALPHA, _ALL_BETA = "AllAlpha", "AllBeta"

# With what holds where they are not given.
_EFFECTIVE_GATES = (
    (EXTERNAL_IPS_GATE, True),
    (LOCALHOST_NODE_PORTS_GATE, True),
    (ROUTER_GATE, False),
    (UDP_GATE, False),
)

#: Gates of kube-proxy up to 1.38 that need no warning: those with an effect, and those that a
#: cluster may set for every component and that have nothing to switch in nfproxy.
KNOWN_GATES = frozenset(
    {
        *dict(_EFFECTIVE_GATES),
        _ALL_ALPHA,
        _ALL_BETA,
        "KubeProxyIPVS",
        "ManagedFieldsOptOut",
        "NFTablesNetlink",
        "NativeHistograms",
    }
)
LOCAL_MODES = ("ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix")

_MINUTE, _HOUR = 60, 3600
_NOT_NEEDED = Treatment.NOT_NEEDED

_general = Settings(Group.GENERAL)
_node = Settings(Group.NODE, for_node=True)
_local_pods = Settings(Group.LOCAL_PODS, for_node=True)
_servers = Settings(Group.SERVERS)
_sync = Settings(Group.SYNC)
_conntrack = Settings(Group.CONNTRACK)
_limits = Settings(Group.SYNC, for_node=True)
_unused = Settings(Group.UNUSED, treatment=_NOT_NEEDED)
_windows = Settings(Group.WINDOWS, treatment=Treatment.OTHER_MODE)

# A setting takes two lines, not nine.
# fmt: off


class NFTables(Block, frozen=True):
    """
    ``nftables``: the block of the mode that nfproxy implements.

    kube-proxy's default of `min_sync_period` is 1 s, because a sync takes it that long.
    """

    masquerade_all: bool = _local_pods(False, "masquerade-all",
        help="Masquerade all traffic to cluster IPs, whatever its source.")
    masquerade_bit: int = _local_pods(14, type=integer(0, 31), keeps_zero=True,
        help="Bit of the packet mark that asks for masquerading.")
    sync_period: Duration = _sync(Duration.of(30), "iptables-sync-period", duration(minimum=1),
        help="Longest delay before a failed sync is tried again; a node without success for twice "
             "as long is unhealthy. Counts in nftables mode, as in kube-proxy.")
    min_sync_period: Duration = _sync(Duration.of(0.05), "iptables-min-sync-period",
        duration(minimum=0),
        help="Least time between two changes to the kernel; counts in nftables mode as well.")


class DetectLocal(Block, frozen=True):
    """``detectLocal``: parameters of the two interface modes."""

    bridge_interface: str = _local_pods("", "pod-bridge-interface",
        help="Name of the bridge local pods are attached to, in BridgeInterface mode.")
    interface_name_prefix: str = _local_pods("", "pod-interface-name-prefix",
        help="How names of local pods' interfaces begin, in InterfaceNamePrefix mode.")


class Conntrack(Block, frozen=True):
    """``conntrack``: sysctls written at start; zero leaves the sysctl as it is."""

    max_per_core: int = _conntrack(32768, "conntrack-max-per-core", integer(0), keeps_zero=True,
        help="Tracked connections per CPU; 0 leaves the limit as it is.")
    min: int = _conntrack(131072, "conntrack-min", integer(0), keeps_zero=True,
        help="Least number of tracked connections to allow.")
    tcp_established_timeout: Duration = _conntrack(Duration.of(24 * _HOUR),
        "conntrack-tcp-timeout-established", duration(minimum=0), keeps_zero=True,
        help="Idle time after which the kernel forgets a TCP connection; 0 leaves it as it is.")
    tcp_close_wait_timeout: Duration = _conntrack(Duration.of(_HOUR),
        "conntrack-tcp-timeout-close-wait", duration(minimum=0), keeps_zero=True,
        help="The same in state CLOSE_WAIT; 0 leaves it as it is.")
    tcp_be_liberal: bool = _conntrack(False, "conntrack-tcp-be-liberal",
        help="Do not mark TCP packets outside the window as invalid.")
    udp_timeout: Duration = _conntrack(Duration(0), "conntrack-udp-timeout", duration(minimum=0),
        help="Idle time of a UDP flow without an answer; 0 leaves it as it is.")
    udp_stream_timeout: Duration = _conntrack(Duration(0), "conntrack-udp-timeout-stream",
        duration(minimum=0), help="Idle time of a UDP flow with answers; 0 leaves it as it is.")


class ServiceLimitsConfiguration(Block, frozen=True):
    """``serviceLimits``: our own, the most that one Service may have on a node."""

    frontends: int = _limits(32_768, "service-limit-frontends", integer(1),
        help="Frontends: addresses and node ports, times ports. Cluster IPs come first.")
    endpoints: int = _limits(10_000, "service-limit-endpoints", integer(1),
        help="Endpoints of a Service port in one IP family. Each node chooses others of them.")
    source_ranges: int = _limits(10_000, "service-limit-source-ranges", integer(1),
        help="loadBalancerSourceRanges in one IP family. The largest ones count.")
    elements: int = _limits(250_000, "service-limit-elements", integer(2),
        help="Elements for frontends and endpoints; all ports of the Service have equal shares.")


class KubeProxyConfiguration(Block, frozen=True):
    """The whole configuration; without arguments, the defaults."""

    api_version: str = API_VERSION
    kind: str = KIND
    feature_gates: dict[str, bool] = _general({}, "feature-gates", for_node=True,
        help="Feature switches, NAME=true or NAME=false. With an effect: " + ", ".join(
             f"{gate} [{'true' if is_on else 'false'}]" for gate, is_on in _EFFECTIVE_GATES) + ".")
    client_connection: ClientConnection = ClientConnection()
    logging: Logging = Logging()
    mode: str = _general("", "proxy-mode", choice(*MODES), for_node=True,
        help="iptables, ipvs and an empty value mean nftables, the only mode of nfproxy.")
    oom_score_adj: int = _general(-999, "oom-score-adj", integer(-1000, 1000), keeps_zero=True,
        help="How readily the kernel kills this process when memory runs out.")
    config_sync_period: Duration = _general(Duration.of(15 * _MINUTE), "config-sync-period",
        duration(minimum=1), treatment=_NOT_NEEDED,
        help="How often kube-proxy goes through its cache again.")
    hostname_override: str = _node("", "hostname-override", overrides_file=True,
        help="Name of this node's Node object; otherwise the host name. Wins over the file.")
    bind_address: str = _node("0.0.0.0", "bind-address", ADDRESS,  # noqa: S104 - nothing binds to it
        help="This node's primary IP, in place of the Node object's. nfproxy does not listen "
             "there; 0.0.0.0 and :: leave the choice to the Node object.")
    node_port_addresses: tuple[str, ...] = _node((), "nodeport-addresses",
        help="Where node ports are accepted: CIDRs that contain the local addresses to use, and "
             'the words "primary" (the node\'s IPs, the default), "all" and "localhost", in any '
             "mix. A family without an entry accepts them on every local address. Loopback "
             "addresses accept TCP where an entry names them.")
    detect_local_mode: str = _local_pods("", "detect-local-mode", choice(*LOCAL_MODES),
        help="How to recognise a packet of a local pod: source in --cluster-cidr (ClusterCIDR, "
             "the default), source in the node's podCIDRs (NodeCIDR), or the interface it comes "
             "from (BridgeInterface, InterfaceNamePrefix).")
    cluster_cidr: str = _local_pods("", "cluster-cidr", name="clusterCIDR",
        help="Pods' addresses in ClusterCIDR mode: one CIDR, or one per family with a comma.")
    detect_local: DetectLocal = DetectLocal()
    nftables: NFTables = NFTables()
    healthz_bind_address: str = _servers("0.0.0.0:10256", "healthz-bind-address", ADDRESS_PORT,
        help="Address of the health server; without a port, 10256.")
    metrics_bind_address: str = _servers("127.0.0.1:10249", "metrics-bind-address", ADDRESS_PORT,
        help="Address of the metrics server; without a port, 10249.")
    bind_address_hard_fail: bool = _servers(False, "bind-address-hard-fail",
        help="Exit if the health or metrics server cannot listen, instead of trying again.")
    enable_profiling: bool = _servers(False, "profiling", treatment=_NOT_NEEDED,
        help="Profiles of the Go runtime on the metrics port.")
    show_hidden_metrics_for_version: str = _servers("", "show-hidden-metrics-for-version",
        treatment=_NOT_NEEDED, help="Version whose hidden metrics to show; nfproxy hides none.")
    conntrack: Conntrack = Conntrack()
    service_limits: ServiceLimitsConfiguration = ServiceLimitsConfiguration()
    iptables: IPTables = IPTables()
    ipvs: IPVS = IPVS()
    winkernel: Winkernel = Winkernel()
    windows_run_as_service: bool = _windows(False, help="Run as a Windows service.")
    port_range: str = _unused("", help="Left over from the userspace mode.")

    @property
    def allows_external_ips(self) -> bool:
        """Return whether nfproxy serves external IPs of Services (gate AllowServiceExternalIPs)."""
        return self.feature_gates.get(EXTERNAL_IPS_GATE, True)

    @property
    def serves_localhost_node_ports(self) -> bool:
        """Return whether gate KubeProxyNFTablesLocalhostNodePorts is on (beta in 1.38)."""
        every = self.feature_gates.get(_ALL_BETA, True)
        return self.feature_gates.get(LOCALHOST_NODE_PORTS_GATE, every)

    @property
    def serves_localhost_udp(self) -> bool:
        """Return whether gate NfproxyUDPLocalhostNodePorts is on."""
        return self.feature_gates.get(UDP_GATE, False)

    @property
    def routes_ingress(self) -> bool:
        """Return whether ``ipMode: Router`` counts (gate LoadBalancerIPModeRouter, alpha)."""
        every = self.feature_gates.get(_ALL_ALPHA, False)
        return self.feature_gates.get(ROUTER_GATE, every)

# fmt: on
