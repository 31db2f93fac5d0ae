"""
Blocks of other proxy modes and platforms, accepted so that existing files and flags keep working.
"""

from __future__ import annotations

from nfproxy.config.durations import Duration
from nfproxy.config.setting import Block, Group, Settings, Treatment
from nfproxy.config.valuetypes import duration, integer

_iptables = Settings(Group.IPTABLES, treatment=Treatment.OTHER_MODE)
_ipvs = Settings(Group.IPVS, treatment=Treatment.OTHER_MODE)
_windows = Settings(Group.WINDOWS, treatment=Treatment.OTHER_MODE)

# A setting takes two lines, not nine.
# fmt: off


class IPTables(Block, frozen=True):
    """``iptables``: belongs to iptables mode."""

    masquerade_bit: int = _iptables(14, "iptables-masquerade-bit", integer(0, 31), keeps_zero=True,
        replacement="nftables.masqueradeBit", help="Mark bit in iptables mode.")
    masquerade_all: bool = _iptables(False, replacement="nftables.masqueradeAll",
        help="Masquerade everything in iptables mode.")
    localhost_node_ports: bool = _iptables(True, "iptables-localhost-nodeports", keeps_zero=True,
        warn_about=True,
        help="Node ports on localhost in iptables mode; otherwise nodePortAddresses has localhost.")
    sync_period: Duration = _iptables(Duration.of(30), type=duration(),
        replacement="nftables.syncPeriod", help="Retry delay in iptables mode.")
    min_sync_period: Duration = _iptables(Duration.of(1), type=duration(),
        replacement="nftables.minSyncPeriod", help="Least time between changes in iptables mode.")


class IPVS(Block, frozen=True):
    """``ipvs``: belongs to ipvs mode."""

    sync_period: Duration = _ipvs(Duration.of(30), "ipvs-sync-period", duration(),
        replacement="nftables.syncPeriod", help="Retry delay in ipvs mode.")
    min_sync_period: Duration = _ipvs(Duration(0), "ipvs-min-sync-period", duration(),
        replacement="nftables.minSyncPeriod", help="Least time between changes in ipvs mode.")
    scheduler: str = _ipvs("", "ipvs-scheduler", help="IPVS scheduler.")
    exclude_cidrs: tuple[str, ...] = _ipvs((), "ipvs-exclude-cidrs", name="excludeCIDRs",
        help="Addresses whose IPVS rules kube-proxy leaves.")
    strict_arp: bool = _ipvs(False, "ipvs-strict-arp", name="strictARP",
        help="ARP sysctls for IPVS.")
    tcp_timeout: Duration = _ipvs(Duration(0), "ipvs-tcp-timeout", duration(),
        help="IPVS timeout of idle TCP connections.")
    tcp_fin_timeout: Duration = _ipvs(Duration(0), "ipvs-tcpfin-timeout", duration(),
        help="IPVS timeout of TCP connections after a FIN.")
    udp_timeout: Duration = _ipvs(Duration(0), "ipvs-udp-timeout", duration(),
        help="IPVS timeout of UDP packets.")


class Winkernel(Block, frozen=True):
    """``winkernel``: Windows only."""

    network_name: str = _windows("", help="HNS network.")
    source_vip: str = _windows("", help="Source address of HNS.")
    enable_dsr: bool = _windows(False, name="enableDSR", help="Direct server return.")
    root_hns_endpoint_name: str = _windows("", help="HNS endpoint.")
    forward_health_check_vip: bool = _windows(False, help="Health checks to the VIP.")
