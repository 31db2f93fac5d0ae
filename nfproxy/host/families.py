"""
Which IP families the kernel has enabled.
"""

from __future__ import annotations

from pathlib import Path

from nfproxy.model.addresses import Family


def families_of_host(proc: Path = Path("/proc")) -> tuple[Family, ...]:
    """Return the families to program: IPv4, and IPv6 where the kernel has it enabled."""
    disabled = proc / "sys/net/ipv6/conf/all/disable_ipv6"
    if not (proc / "net/if_inet6").exists():
        return (Family.IPV4,)
    if disabled.exists() and disabled.read_text("ascii").strip() == "1":
        return (Family.IPV4,)
    return (Family.IPV4, Family.IPV6)
