"""
Settings of other proxy modes and platforms, accepted so that files and flags carry over.
"""

from __future__ import annotations

from functools import partial

from nfproxy.config.kinds import BOOL, PATH, STRING, STRINGS, duration, integer
from nfproxy.config.setting import Setting, Treatment

_iptables = partial(Setting, group="iptables mode", treatment=Treatment.OTHER_MODE)
IPTABLES = (
    _iptables(
        flag="iptables-masquerade-bit",
        field="iptables.masqueradeBit",
        kind=integer(0, 31),
        keeps_zero=True,
        instead="nftables.masqueradeBit",
        help="Mark bit in iptables mode.",
    ),
    _iptables(
        field="iptables.masqueradeAll",
        kind=BOOL,
        instead="nftables.masqueradeAll",
        help="Masquerade everything in iptables mode.",
    ),
    _iptables(
        field="iptables.syncPeriod",
        kind=duration(),
        instead="nftables.syncPeriod",
        help="Retry delay in iptables mode.",
    ),
    _iptables(
        field="iptables.minSyncPeriod",
        kind=duration(),
        instead="nftables.minSyncPeriod",
        help="Least time between changes in iptables mode.",
    ),
    _iptables(
        flag="iptables-localhost-nodeports",
        field="iptables.localhostNodePorts",
        kind=BOOL,
        keeps_zero=True,
        loud=True,
        help="Node ports on localhost; nftables mode has none.",
    ),
)

_ipvs = partial(Setting, group="ipvs mode", treatment=Treatment.OTHER_MODE)
IPVS = (
    _ipvs(
        flag="ipvs-sync-period",
        field="ipvs.syncPeriod",
        kind=duration(),
        instead="nftables.syncPeriod",
        help="Retry delay in ipvs mode.",
    ),
    _ipvs(
        flag="ipvs-min-sync-period",
        field="ipvs.minSyncPeriod",
        kind=duration(),
        instead="nftables.minSyncPeriod",
        help="Least time between changes in ipvs mode.",
    ),
    _ipvs(
        flag="ipvs-scheduler",
        field="ipvs.scheduler",
        kind=STRING,
        help="IPVS scheduler.",
    ),
    _ipvs(
        flag="ipvs-exclude-cidrs",
        field="ipvs.excludeCIDRs",
        kind=STRINGS,
        help="Addresses whose IPVS rules are left alone.",
    ),
    _ipvs(
        flag="ipvs-strict-arp",
        field="ipvs.strictARP",
        kind=BOOL,
        help="ARP sysctls for IPVS.",
    ),
    _ipvs(
        flag="ipvs-tcp-timeout",
        field="ipvs.tcpTimeout",
        kind=duration(),
        help="IPVS timeout of idle TCP connections.",
    ),
    _ipvs(
        flag="ipvs-tcpfin-timeout",
        field="ipvs.tcpFinTimeout",
        kind=duration(),
        help="IPVS timeout of TCP connections after a FIN.",
    ),
    _ipvs(
        flag="ipvs-udp-timeout",
        field="ipvs.udpTimeout",
        kind=duration(),
        help="IPVS timeout of UDP packets.",
    ),
)

_windows = partial(Setting, group="Windows", treatment=Treatment.OTHER_MODE)
WINDOWS = (
    _windows(field="winkernel.networkName", kind=STRING, help="HNS network."),
    _windows(field="winkernel.sourceVip", kind=STRING, help="Source address of HNS."),
    _windows(field="winkernel.enableDSR", kind=BOOL, help="Direct server return."),
    _windows(field="winkernel.rootHnsEndpointName", kind=STRING, help="HNS endpoint."),
    _windows(field="winkernel.forwardHealthCheckVip", kind=BOOL, help="Health checks to the VIP."),
    _windows(field="windowsRunAsService", kind=BOOL, help="Run as a Windows service."),
)

_idle = partial(Setting, group="Without function", treatment=Treatment.NOT_NEEDED)
WITHOUT_FUNCTION = (
    _idle(field="portRange", kind=STRING, help="Remnant of the userspace mode."),
    _idle(
        flag="machine-id-file",
        kind=PATH,
        flag_default="/etc/machine-id,/var/lib/dbus/machine-id",
        help="Registered by a library kube-proxy is linked with.",
    ),
    _idle(
        flag="boot-id-file",
        kind=PATH,
        flag_default="/proc/sys/kernel/random/boot_id",
        help="Registered by a library kube-proxy is linked with.",
    ),
)
