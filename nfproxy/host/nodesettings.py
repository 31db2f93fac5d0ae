"""Settings and counters of this network namespace that decide about forwarded packets."""

from __future__ import annotations

from pathlib import Path

from nfproxy.insight.nodefacts import NodeSettings, TrackedUse
from nfproxy.model.addresses import FAMILIES, Family

_FORWARDING = {
    Family.IPV4: "sys/net/ipv4/ip_forward",
    Family.IPV6: "sys/net/ipv6/conf/all/forwarding",
}
_FAILED4, _FAILED6 = "FragFails", "Ip6FragFails"


def read_node_settings(proc: Path = Path("/proc")) -> NodeSettings:
    """Return the settings; None for those that the kernel does not have."""
    return NodeSettings(
        {family: _switch(proc / _FORWARDING[family]) for family in FAMILIES},
        {
            family: _switch(proc / f"sys/net/bridge/bridge-nf-call-{family.table}tables")
            for family in FAMILIES
        },
        {Family.IPV4: _column(proc / "net/snmp", "Ip", _FAILED4), Family.IPV6: _failed_ipv6(proc)},
        _column(proc / "net/netstat", "TcpExt", "IPReversePathFilter"),
    )


def tracked_connections(proc: Path = Path("/proc")) -> TrackedUse | None:
    """Return how full the table of connections is; None where the kernel tracks none."""
    root = proc / "sys/net/netfilter"
    limit = _number(_text(root / "nf_conntrack_max").strip())
    return TrackedUse(_number(_text(root / "nf_conntrack_count").strip()), limit) if limit else None


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace")
    except OSError:
        return ""


def _switch(path: Path) -> bool | None:
    text = _text(path).strip()
    return text != "0" if text else None


def _column(path: Path, head: str, name: str) -> int:
    """Return a column of the two lines that begin with `head`: one of names, one of numbers."""
    rows = [line.split() for line in _text(path).splitlines() if line.startswith(f"{head}: ")]
    if len(rows) < 2 or name not in rows[0][: len(rows[1])]:
        return 0
    return _number(rows[1][rows[0].index(name)])


def _failed_ipv6(proc: Path) -> int:
    rows = (line.split() for line in _text(proc / "net/snmp6").splitlines())
    return next((_number(row[1]) for row in rows if row[:1] == [_FAILED6] and row[1:]), 0)


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0
