"""``render`` and ``run`` make the same kernel state of the same input."""

import json
from pathlib import Path

import pytest
import yaml
from support.objects.everything import everything
from support.processes.commands import Commands, write

FILE = {
    "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
    "kind": "KubeProxyConfiguration",
    "mode": "nftables",
    "clusterCIDR": "10.244.0.0/16,fd00:10:244::/48",
    "nodePortAddresses": ["192.168.0.0/16"],
    "nftables": {"masqueradeAll": True, "masqueradeBit": 7},
}

CASES = {
    "defaults": (),
    "cluster cidr": ("--cluster-cidr", "10.244.0.0/16,fd00:10:244::/48"),
    "node cidr": ("--detect-local-mode", "NodeCIDR"),
    "interface prefix": (
        *("--detect-local-mode", "InterfaceNamePrefix"),
        *("--pod-interface-name-prefix", "veth"),
    ),
    "bridge": (
        *("--detect-local-mode", "BridgeInterface"),
        *("--pod-bridge-interface", "cni0"),
        *("--nodeport-addresses", "primary"),
    ),
    "node port cidrs": ("--nodeport-addresses", "192.168.0.0/16,fd77::/64"),
    "all addresses, masquerade": ("--nodeport-addresses", "0.0.0.0/0,::/0", "--masquerade-all"),
    "yaml file": ("--config", "FILE.yaml"),
    "json file": ("--config", "FILE.json"),
}

#: What must be in the rules, so that no case passes by ignoring its flags.
SIGNS = {
    "defaults": "0x00004000",
    "cluster cidr": "ip saddr != 10.244.0.0/16",
    "node cidr": "ip6 saddr != fd00:10:244:1::/64",
    "interface prefix": 'iifname != "veth*"',
    "bridge": 'iifname != "cni0"',
    "node port cidrs": "192.168.0.0/16",
    "all addresses, masquerade": "fib daddr type local",
    "yaml file": "0x00000080",
    "json file": "0x00000080",
}


@pytest.mark.parametrize("case", CASES)
def test_render_and_run_agree(
    commands: Commands, manifests: Path, tmp_path: Path, case: str
) -> None:
    """
    Elements are equal up to the order of slots, and so are chains and sets: diff finds nothing.
    """
    (tmp_path / "FILE.yaml").write_text(yaml.safe_dump(FILE))
    (tmp_path / "FILE.json").write_text(json.dumps(FILE))
    flags = [str(tmp_path / f) if f.startswith("FILE") else f for f in CASES[case]]
    write(manifests / "all.json", *everything())
    script = commands.run("render", "-f", manifests, *flags).out
    assert SIGNS[case] in script

    with commands.daemon(manifests, *flags):
        ran = commands.state()
        assert commands.run("diff", "-f", manifests, *flags).code == 0
    commands.run("cleanup")
    commands.nft(script)
    rendered = commands.state()

    assert rendered["frontends"]
    assert ran == rendered


def test_the_bit_of_another_mode_is_not_ours(commands: Commands, manifests: Path) -> None:
    """As in kube-proxy the flag has no effect, and the field that has one is named."""
    write(manifests / "all.json", *everything())
    plain = commands.run("render", "-f", manifests)
    flagged = commands.run("render", "-f", manifests, "--iptables-masquerade-bit", 5)

    assert plain.out == flagged.out
    assert "the field to set is nftables.masqueradeBit" in flagged.err
