"""Flags with which ``nfproxy run`` does something else than to run, as kube-proxy's do."""

from pathlib import Path

import pytest
import yaml
from support.processes.commands import Commands, node_object, service, write

from nfproxy import __version__

#: Leaves the machine's settings of connection tracking alone.
UNTUNED = (
    "--conntrack-max-per-core=0",
    "--conntrack-tcp-timeout-established=0",
    "--conntrack-tcp-timeout-close-wait=0",
)


@pytest.mark.parametrize("flag", ["--version", "--version=raw"])
def test_version(commands: Commands, flag: str) -> None:
    """nfproxy prints it and exits, whatever else is wrong."""
    result = commands.run("run", flag, node="")

    assert (result.code, result.out) == (0, f"nfproxy {__version__}\n")


def test_write_config(commands: Commands, tmp_path: Path) -> None:
    """The file has the effective configuration; reading it gives the same one."""
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    given = ("--cluster-cidr=10.244.0.0/16", "--masquerade-all", "--conntrack-min=7")
    wrote = commands.run("run", *given, f"--write-config-to={first}")
    again = commands.run("run", f"--config={first}", f"--write-config-to={second}")
    data = yaml.safe_load(first.read_text())

    assert (wrote.code, again.code) == (0, 0)
    assert first.read_text() == second.read_text()
    assert data["kind"] == "KubeProxyConfiguration"
    assert data["clusterCIDR"] == "10.244.0.0/16"
    assert data["nftables"]["masqueradeAll"] is True
    assert data["conntrack"]["min"] == 7


def test_a_configuration_that_cannot_be_written(commands: Commands, tmp_path: Path) -> None:
    """The error names the flag and the file."""
    result = commands.run("run", f"--write-config-to={tmp_path}/no/file")

    assert result.code == 1
    assert f"--write-config-to: {tmp_path}/no/file: No such file or directory" in result.err


def test_cleanup(commands: Commands, manifests: Path) -> None:
    """It removes nfproxy's tables and kube-proxy's, without objects or an API server."""
    write(manifests / "node.json", node_object())
    write(manifests / "web.json", service())
    with commands.daemon(manifests):
        pass
    commands.nft("add table ip other\nadd table ip kube-proxy\nadd table ip6 kube-proxy")
    first = commands.run("run", "--cleanup")
    second = commands.run("run", "--cleanup")

    assert (first.code, second.code) == (0, 0)
    assert first.out.splitlines() == [
        "removed table ip nfproxy",
        "removed table ip6 nfproxy",
        "removed\tnftables ip\ttable\tkube-proxy\t1",
        "removed\tnftables ip6\ttable\tkube-proxy\t1",
    ]
    assert second.out.count("nothing to remove") == 2
    assert commands.tables() == ["ip other"]


def test_init_only(commands: Commands) -> None:
    """It sets the sysctls, tries the kernel, and programs nothing."""
    result = commands.run("run", "--init-only", *UNTUNED)

    assert result.code == 0
    assert "this node is prepared" in result.err
    assert commands.tables() == []


def test_nothing_is_changed_where_the_kubeconfig_cannot_be_used(commands: Commands) -> None:
    """Neither sysctls nor tables: a wrong configuration ends the start before anything else."""
    name = "net.netfilter.nf_conntrack_tcp_timeout_established"
    before = commands.namespace.run(["sysctl", "-n", name]).stdout
    flags = ("--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=23h")
    result = commands.run("run", "--kubeconfig", "/nonexistent", *flags)

    assert (result.code, result.out) == (1, "")
    assert "/nonexistent: No such file or directory; check --kubeconfig" in result.err
    assert commands.namespace.run(["sysctl", "-n", name]).stdout == before
    assert commands.tables() == []
