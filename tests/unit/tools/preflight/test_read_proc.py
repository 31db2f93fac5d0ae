"""
/proc and /sys, as they are somewhere else.
"""

from pathlib import Path

import pytest

from nfproxy.tools.preflight.facts import Conntrack
from nfproxy.tools.preflight.read.proc import (
    read_conntrack,
    read_default_routes,
    read_memory,
    read_process,
    read_processes,
    read_sysctls,
)

ROUTES = """\
Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
eth0	00000000	0101A8C0	0003	0	0	0	00000000	0	0	0
eth1	00000000	0101A8C0	0003	0	0	10	00000000	0	0	0
tun0	00000000	00000000	0003	0	0	0	00000080	0	0	0
eth0	0001A8C0	00000000	0001	0	0	0	00FFFFFF	0	0	0
rubbish
"""


def put(root: Path, files: dict[str, str]) -> Path:
    """Write files below a directory, and return it."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_sysctls(tmp_path: Path) -> None:
    """
    An interface's name may have dots; what is not there is left out.
    """
    proc = put(
        tmp_path,
        {
            "sys/net/ipv4/ip_forward": "1\n",
            "sys/net/ipv4/conf/all/rp_filter": "2\n",
            "sys/net/ipv4/conf/eth0.100/rp_filter": "1\n",
            "sys/net/bridge/bridge-nf-call-iptables": "0\n",
        },
    )
    assert read_sysctls(proc) == {
        "ipv4.ip_forward": "1",
        "ipv4.conf.all.rp_filter": "2",
        "ipv4.conf.eth0.100.rp_filter": "1",
        "bridge.bridge-nf-call-iptables": "0",
    }


def test_default_routes(tmp_path: Path) -> None:
    """
    Halves of the address space, as VPNs like them, are none.
    """
    assert {"eth0", "eth1"} == read_default_routes(put(tmp_path, {"net/route": ROUTES}))
    assert frozenset() == read_default_routes(tmp_path / "none")


def test_conntrack(tmp_path: Path) -> None:
    """
    Numbers, or nothing for what is none.
    """
    directory = "sys/net/netfilter/nf_conntrack"
    files = {f"{directory}_max": "1000\n", f"{directory}_count": "7\n", f"{directory}_buckets": "x"}

    assert Conntrack(7, 1000, None, True) == read_conntrack(put(tmp_path / "a", files))
    assert Conntrack(None, None, None, False) == read_conntrack(tmp_path / "b")


@pytest.mark.parametrize(
    ("group", "files", "expected"),
    [
        ("0::/", {"memory.max": "1000\n"}, 1000),
        ("0::/", {"memory.max": "max\n"}, None),
        ("0::/", {}, None),
        ("0::/a/b", {"a/b/memory.max": "max\n", "a/memory.max": "500\n"}, 500),
        ("0::/a/b", {"a/b/memory.max": "400\n", "a/memory.max": "500\n"}, 400),
        ("0::/../../x", {"memory.max": "9\n"}, 9),
        ("4:memory:/p\n0::/", {"memory/p/memory.limit_in_bytes": "77\n"}, 77),
        ("4:cpu:/p", {"memory/p/memory.limit_in_bytes": "77\n"}, None),
        (
            "4:memory:/",
            {"memory/memory.limit_in_bytes": "9223372036854771712\n"},
            None,
        ),
    ],
)
def test_memory(tmp_path: Path, group: str, files: dict[str, str], expected: int | None) -> None:
    """
    The least limit on the way up, of either version of control groups.
    """
    proc = put(tmp_path / "proc", {"self/cgroup": f"{group}\n"})
    sys = put(tmp_path / "sys", {f"fs/cgroup/{name}": text for name, text in files.items()})

    assert expected == read_memory(proc, sys).limit


def test_processes(tmp_path: Path) -> None:
    """
    Those of another network namespace are left out, those of which that is unknown are not.
    """
    proc = put(
        tmp_path,
        {"1/comm": "init\n", "7/comm": "kube-proxy\n", "8/comm": "kube-proxy\n", "self/comm": "x"},
    )
    (proc / "9").mkdir()
    for number, target in ((1, Path("/proc/self/ns/net").readlink()), (7, "net:[1]")):
        (proc / f"{number}/ns").mkdir()
        (proc / f"{number}/ns/net").symlink_to(target)

    assert read_processes(proc).names == {1: "init", 8: "kube-proxy"}


def test_this_process() -> None:
    """
    What it may do is what the kernel says.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    effective = next(line.split()[1] for line in lines if line.startswith("CapEff"))

    assert int(effective, 16) == read_process().capabilities
