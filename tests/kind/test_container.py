"""nfproxy's container is what the manifests say, and needs no more."""

from __future__ import annotations

from kind.cluster import Cluster

_NET_ADMIN = 1 << 12


def _status(cluster: Cluster) -> dict[str, str]:
    text = cluster.proxy_file(cluster.nodes[0].name, "/proc/1/status")
    return {name: value.strip() for name, _, value in map(_halves, text.splitlines())}


def _halves(line: str) -> tuple[str, str, str]:
    return line.partition(":")


def test_it_has_one_capability_and_can_get_no_other(cluster: Cluster) -> None:
    """The process has CAP_NET_ADMIN alone, in every set, and can gain none by what it executes."""
    status = _status(cluster)
    sets = {name: int(status[name], 16) for name in ("CapPrm", "CapEff", "CapBnd")}
    assert dict.fromkeys(sets, _NET_ADMIN) == sets
    assert (str(int(status["CapAmb"], 16)), status["NoNewPrivs"]) == ("0", "1")


def test_it_runs_under_the_runtime_s_seccomp_profile(cluster: Cluster) -> None:
    """Its system calls are filtered."""
    assert _status(cluster)["Seccomp"] == "2"


def test_its_root_file_system_is_read_only(cluster: Cluster) -> None:
    """The root and what is mounted from the host are mounted read-only, and sysctls too."""
    lines = cluster.proxy_file(cluster.nodes[0].name, "/proc/1/mounts").splitlines()
    options = {fields[1]: fields[3].split(",") for fields in map(str.split, lines)}
    read_only = {at for at, named in options.items() if "ro" in named}
    assert read_only >= {"/", "/proc/sys", "/sys", "/etc/nfproxy"}


def test_it_has_nothing_to_complain_about(cluster: Cluster) -> None:
    """Started as the manifests say, it logs neither a warning nor an error."""
    for node in cluster.nodes:
        log = cluster.proxy_log(node.name)
        assert "ready after" in log
        assert [line for line in log.splitlines() if " WARNING " in line or " ERROR " in line] == []
