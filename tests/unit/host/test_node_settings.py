"""Settings of the namespace, from files as the kernel writes them."""

from pathlib import Path

from nfproxy.host.nodesettings import read_node_settings
from nfproxy.model.addresses import Family


def write(proc: Path, name: str, text: str) -> None:
    path = proc / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_settings_and_counters(tmp_path: Path):
    write(tmp_path, "sys/net/ipv4/ip_forward", "1\n")
    write(tmp_path, "sys/net/ipv6/conf/all/forwarding", "0\n")
    write(tmp_path, "sys/net/bridge/bridge-nf-call-iptables", "1\n")
    write(tmp_path, "net/snmp", "Ip: Forwarding FragFails\nIp: 1 15\nIcmp: InMsgs\nIcmp: 0\n")
    names = "TcpExt: SyncookiesSent IPReversePathFilter Other"
    write(tmp_path, "net/netstat", f"{names}\nTcpExt: 1 7 2\nIpExt: A\nIpExt: 3\n")
    write(tmp_path, "net/snmp6", "Ip6InReceives \t 3\nIp6FragFails    \t 4\n")

    found = read_node_settings(tmp_path)

    assert found.forwarding == {Family.IPV4: True, Family.IPV6: False}
    assert found.bridge_netfilter == {Family.IPV4: True, Family.IPV6: None}
    assert found.fragments_failed == {Family.IPV4: 15, Family.IPV6: 4}
    assert found.reverse_path_drops == 7


def test_what_is_not_there_is_unknown(tmp_path: Path):
    write(tmp_path, "net/snmp", "Ip: Forwarding\nIp: many\n")
    found = read_node_settings(tmp_path)
    assert set(found.forwarding.values()) == {None}
    assert set(found.bridge_netfilter.values()) == {None}
    assert set(found.fragments_failed.values()) == {0}


def test_this_kernel():
    assert read_node_settings().forwarding[Family.IPV4] is not None
