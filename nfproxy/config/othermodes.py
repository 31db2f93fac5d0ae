"""
Blocks of other proxy modes and platforms, accepted so that existing files and flags keep working.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated

import msgspec

from nfproxy.config.durations import Duration
from nfproxy.config.setting import Block, Group, Setting, Treatment
from nfproxy.config.valuetypes import duration, integer

_iptables = partial(Setting, group=Group.IPTABLES, treatment=Treatment.OTHER_MODE)
_ipvs = partial(Setting, group=Group.IPVS, treatment=Treatment.OTHER_MODE)
_windows = partial(Setting, group=Group.WINDOWS, treatment=Treatment.OTHER_MODE)


class IPTables(Block, frozen=True):
    """``iptables``: belongs to iptables mode."""

    masquerade_bit: Annotated[
        int,
        _iptables(
            flag="iptables-masquerade-bit",
            type=integer(0, 31),
            keeps_zero=True,
            replacement="nftables.masqueradeBit",
            help="Mark bit in iptables mode.",
        ),
    ] = 14
    masquerade_all: Annotated[
        bool,
        _iptables(
            replacement="nftables.masqueradeAll", help="Masquerade everything in iptables mode."
        ),
    ] = False
    localhost_node_ports: Annotated[
        bool,
        _iptables(
            flag="iptables-localhost-nodeports",
            keeps_zero=True,
            warn_about=True,
            help="Node ports on localhost in iptables mode; otherwise nodePortAddresses has "
            "localhost.",
        ),
    ] = True
    sync_period: Annotated[
        Duration,
        _iptables(
            type=duration(),
            replacement="nftables.syncPeriod",
            help="Retry delay in iptables mode.",
        ),
    ] = Duration.of(30)
    min_sync_period: Annotated[
        Duration,
        _iptables(
            type=duration(),
            replacement="nftables.minSyncPeriod",
            help="Least time between changes in iptables mode.",
        ),
    ] = Duration.of(1)


class IPVS(Block, frozen=True):
    """``ipvs``: belongs to ipvs mode."""

    sync_period: Annotated[
        Duration,
        _ipvs(
            flag="ipvs-sync-period",
            type=duration(),
            replacement="nftables.syncPeriod",
            help="Retry delay in ipvs mode.",
        ),
    ] = Duration.of(30)
    min_sync_period: Annotated[
        Duration,
        _ipvs(
            flag="ipvs-min-sync-period",
            type=duration(),
            replacement="nftables.minSyncPeriod",
            help="Least time between changes in ipvs mode.",
        ),
    ] = Duration(0)
    scheduler: Annotated[str, _ipvs(flag="ipvs-scheduler", help="IPVS scheduler.")] = ""
    exclude_cidrs: Annotated[
        tuple[str, ...],
        _ipvs(flag="ipvs-exclude-cidrs", help="Addresses whose IPVS rules kube-proxy leaves."),
    ] = msgspec.field(default=(), name="excludeCIDRs")
    strict_arp: Annotated[bool, _ipvs(flag="ipvs-strict-arp", help="ARP sysctls for IPVS.")] = (
        msgspec.field(default=False, name="strictARP")
    )
    tcp_timeout: Annotated[
        Duration,
        _ipvs(
            flag="ipvs-tcp-timeout",
            type=duration(),
            help="IPVS timeout of idle TCP connections.",
        ),
    ] = Duration(0)
    tcp_fin_timeout: Annotated[
        Duration,
        _ipvs(
            flag="ipvs-tcpfin-timeout",
            type=duration(),
            help="IPVS timeout of TCP connections after a FIN.",
        ),
    ] = Duration(0)
    udp_timeout: Annotated[
        Duration,
        _ipvs(
            flag="ipvs-udp-timeout",
            type=duration(),
            help="IPVS timeout of UDP packets.",
        ),
    ] = Duration(0)


class Winkernel(Block, frozen=True):
    """``winkernel``: Windows only."""

    network_name: Annotated[str, _windows(help="HNS network.")] = ""
    source_vip: Annotated[str, _windows(help="Source address of HNS.")] = ""
    enable_dsr: Annotated[bool, _windows(help="Direct server return.")] = msgspec.field(
        default=False, name="enableDSR"
    )
    root_hns_endpoint_name: Annotated[str, _windows(help="HNS endpoint.")] = ""
    forward_health_check_vip: Annotated[bool, _windows(help="Health checks to the VIP.")] = False
