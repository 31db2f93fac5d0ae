"""``nfproxy cleanup --kube-proxy``: what it finds, leaves alone and refuses."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.kernel.oldproxy import (
    CLUSTER_CIDR,
    KUBELETS,
    OBJECTS,
    Left,
    Mode,
    configuration,
    install,
    left_on,
    make_ipsets,
    manifests_in,
    rules,
)
from support.processes.commands import Commands, Result, eventually

from nfproxy.tools.lab import Lab, Namespace
from nfproxy.tools.takeover.names import IPSETS

modes = pytest.mark.parametrize("mode", Mode, ids=lambda mode: mode.value)


@pytest.fixture
def node(namespaces_allowed: None) -> Iterator[Namespace]:
    """An empty network namespace."""
    with Lab() as lab:
        yield lab.namespace("node")


@pytest.fixture
def commands(node: Namespace, tmp_path: Path) -> Commands:
    """nfproxy's commands there."""
    return Commands(node, tmp_path)


def cleanup(commands: Commands, *arguments: object, prefix: tuple[str, ...] = ()) -> Result:
    """Run the command to its end."""
    return commands.run("cleanup", "--kube-proxy", *arguments, prefix=prefix)


def program(commands: Commands) -> None:
    """Program nfproxy's tables on the node."""
    flags = ("-f", OBJECTS, "--cluster-cidr", CLUSTER_CIDR)
    commands.nft(commands.run("render", *flags).out)


def ruleset(node: Namespace) -> list[str]:
    """Return the content of all packet filters, without handles and counts."""
    saves = [["nft", "-s", "list", "ruleset"]] + [["iptables-legacy-save"]] * bool(
        node.call(_legacy_tables)
    )
    return [
        re.sub(r"\[\d+:\d+\]", "", line)
        for argv in saves
        for line in node.run(argv).stdout.splitlines()
        if not line.startswith("#")
    ]


def _legacy_tables() -> str:
    return Path("/proc/thread-self/net/ip_tables_names").read_text()


def start_kube_proxy(node: Namespace, directory: Path) -> subprocess.Popen[Any]:
    """Start a process on the node that is called kube-proxy, and programs nothing."""
    sleep = shutil.copy(shutil.which("sleep") or "", directory / "kube-proxy")
    return node.start([str(sleep), "60"], stdout=subprocess.DEVNULL)


def restore(node: Namespace, text: str, program: str = "iptables-nft-restore") -> None:
    """Add rules to the existing ones."""
    node.run([program, "--noflush"], input=text)


@modes
def test_a_dry_run_lists_everything_and_changes_nothing(
    mode: Mode, node: Namespace, commands: Commands
) -> None:
    """The dry run lists what the run then removes; a second run finds nothing."""
    install(node, mode)
    program(commands)
    before = ruleset(node)
    planned = cleanup(commands, "--dry-run", "-o", "json")
    unchanged = ruleset(node) == before
    done = cleanup(commands, "-o", "json")
    again = cleanup(commands)

    assert unchanged
    assert (planned.code, done.code) == (0, 0)
    assert planned.err == done.err == ""
    rows: list[dict[str, Any]] = planned.data["leftovers"]
    assert {row["action"] for row in rows} == {"remove"}
    assert done.data["leftovers"] == [{**row, "action": "removed"} for row in rows]
    assert left_on(node) == (Left((), ()) if mode is Mode.NFTABLES else KUBELETS)
    nothing = "nothing to remove: kube-proxy has left nothing on this node\n"
    assert again == (0, nothing, "")
    assert {"ip nfproxy", "ip6 nfproxy"} <= set(commands.tables())


def test_the_list_is_a_line_each(node: Namespace, commands: Commands) -> None:
    """Each row has place, kind, name and count; the chains of single Services share a row."""
    install(node, Mode.IPTABLES_NFT)
    program(commands)
    lines = cleanup(commands, "--dry-run").out.splitlines()

    assert "remove\tip6tables-nft nat\tchain\tKUBE-SEP-*\t8" in lines
    assert "remove\tiptables-nft filter\trule\tFORWARD to KUBE-FORWARD\t1" in lines
    assert "remove\tnfacct\tcounter\tct_state_invalid_dropped_pkts\t1" in lines
    assert not [line for line in lines if "KUBE-FIREWALL" in line]


@pytest.mark.parametrize("backend", ["nft", "legacy"])
def test_nothing_of_others_is_touched(backend: str, node: Namespace, commands: Commands) -> None:
    """The rules of kubelet, CNI plugins, kube-router, Docker and administrators stay unchanged."""
    others = (rules("others.v4"), f"iptables-{backend}-restore")
    restore(node, *others)
    alone = ruleset(node)
    node.run(
        [f"iptables-{backend}-restore"], input="*filter\nCOMMIT\n*nat\nCOMMIT\n*mangle\nCOMMIT\n"
    )
    install(node, Mode(f"iptables-{backend}"))
    restore(node, rules("others.v4").replace(":KUBE-FIREWALL -\n", ""), others[1])
    program(commands)
    result = cleanup(commands)
    commands.run("cleanup")

    assert (result.code, result.err) == (0, "")
    kept = set(ruleset(node))
    assert [line for line in alone if line not in kept] == []
    assert not [line for line in kept if re.search(r"KUBE-(SERVICES|POSTROUTING|SEP-)", line)]


def test_rules_of_others_that_lead_to_a_chain_stay_and_are_listed(
    node: Namespace, commands: Commands
) -> None:
    """The chain is emptied and stays; without that rule it goes."""
    install(node, Mode.IPTABLES_NFT)
    program(commands)
    mine = ["FORWARD", "-s", "10.1.0.0/16", "-j", "KUBE-FORWARD"]
    node.run(["iptables-nft", "-A", *mine])
    first = cleanup(commands, "-o", "json")
    chain = node.run(["iptables-nft", "-S", "KUBE-FORWARD"]).stdout
    node.run(["iptables-nft", "-D", *mine])
    second = cleanup(commands)

    (left,) = [row for row in first.data["leftovers"] if row["action"] == "left"]
    assert (first.code, left["name"]) == (1, "KUBE-FORWARD")
    assert "not kube-proxy's lead there (1 in FORWARD): emptied" in left["reason"]
    assert chain == "-N KUBE-FORWARD\n"
    assert second == (0, "removed\tiptables-nft filter\tchain\tKUBE-FORWARD\t1\n", "")


def test_the_chain_that_marks_stays_for_those_who_use_it(
    node: Namespace, commands: Commands
) -> None:
    """nfproxy masquerades by the mark, so a CNI plugin's host ports keep working."""
    install(node, Mode.IPTABLES_NFT)
    program(commands)
    restore(node, "*nat\n:CNI-DN-a -\n-A CNI-DN-a -s 10.244.1.2 -j KUBE-MARK-MASQ\nCOMMIT\n")
    result = cleanup(commands)
    chain = node.run(["iptables-nft", "-t", "nat", "-S", "KUBE-MARK-MASQ"]).stdout

    assert result.code == 0
    kept = "keep\tiptables-nft nat\tchain\tKUBE-MARK-MASQ\t1\trules that are not kube-proxy's"
    assert kept in result.out
    assert "-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000" in chain


def test_sets_of_ipvs_mode_go_with_the_rules_that_use_them(
    node: Namespace, commands: Commands
) -> None:
    """kube-proxy's sets of both families go; others stay."""
    node.call(make_ipsets, [*IPSETS, "KUBE-DST-3YNVZWWGX3UQQ4VQ", "mine"])
    restore(node, rules("ipvs.v4"))
    program(commands)
    result = cleanup(commands)

    assert (result.code, result.err) == (0, "")
    assert result.out.count("ipset\tset") == len(IPSETS) == 34
    assert node.call(set_names) == ["KUBE-DST-3YNVZWWGX3UQQ4VQ", "mine"]
    assert left_on(node) == Left((), ())


def set_names() -> list[str]:
    """Return all ipsets of the network namespace."""
    from pyroute2 import IPSet

    with IPSet() as sets:
        return sorted(message.get_attr("IPSET_ATTR_SETNAME") for message in sets.list())


# --- refusals ----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [Mode.NFTABLES, Mode.IPTABLES_LEGACY])
def test_refuses_to_leave_the_node_without_a_proxy(
    mode: Mode, node: Namespace, commands: Commands
) -> None:
    """The command refuses unless nfproxy has programmed the node; --force removes them anyway."""
    install(node, mode)
    before = ruleset(node)
    planned = cleanup(commands, "--dry-run")
    refused = cleanup(commands)
    unchanged = ruleset(node) == before
    forced = cleanup(commands, "--force")

    assert planned.code == 0
    assert "would be refused: nfproxy has not programmed" in planned.err
    assert (refused.code, refused.out) == (1, "")
    assert "refused: nfproxy has not programmed IPv4 and IPv6 on this node" in refused.err
    assert unchanged
    assert (forced.code, forced.err) == (0, "")


def test_refuses_as_long_as_kube_proxy_runs(
    node: Namespace, commands: Commands, tmp_path: Path
) -> None:
    """kube-proxy would put everything back; the refusal names its process."""
    install(node, Mode.NFTABLES)
    program(commands)
    process = start_kube_proxy(node, tmp_path)
    refused = cleanup(commands, "-o", "json")
    node.stop(process)
    done = cleanup(commands)

    assert refused.code == 1
    assert refused.data["leftovers"] == []
    (reason,) = refused.data["refused"]
    assert f"kube-proxy is running on this node (process {process.pid})" in reason
    assert done.code == 0


@pytest.mark.parametrize(
    ("backend", "drops"), [("nft", "-P FORWARD DROP"), ("legacy", "-A FORWARD -j REJECT")]
)
def test_refuses_where_forwarded_packets_would_be_dropped(
    drops: str, backend: str, node: Namespace, commands: Commands
) -> None:
    """iptables mode accepts such packets itself; the remedy in the refusal works."""
    install(node, Mode(f"iptables-{backend}"))
    program(commands)
    node.run([f"iptables-{backend}", *drops.split()])
    refused = cleanup(commands)
    remedy = refused.err.partition("start: ")[2]
    node.run(shlex.split(remedy))
    done = cleanup(commands)

    assert refused.code == 1
    assert remedy.startswith(f"iptables-{backend} -I FORWARD -m conntrack --ctstate DNAT")
    assert (done.code, done.err) == (0, "")


def test_says_what_iptables_legacy_needs(node: Namespace, commands: Commands) -> None:
    """Its programs need root; everything else is removed without them."""
    install(node, Mode.IPTABLES_LEGACY)
    program(commands)
    only = ("setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw", "--")
    result = cleanup(commands, prefix=only)

    assert result.code == 1
    assert "this needs the capabilities NET_ADMIN and NET_RAW" in result.err
    assert "removed\tip6tables-nft nat\tchain\tKUBE-SERVICES" in result.out
    assert json.loads(cleanup(commands, "-o", "json").out)["problems"] == []


# --- nfproxy's own tables ----------------------------------------------------------------


def test_own_tables_go_after_a_warning_if_nfproxy_runs(
    node: Namespace, commands: Commands, tmp_path: Path
) -> None:
    """A running nfproxy puts its tables back, so the command warns; a dry run only lists them."""
    manifests, config = manifests_in(tmp_path / "manifests"), configuration(tmp_path)
    with commands.daemon(manifests, "--config", config) as daemon:
        planned = commands.run("cleanup", "--dry-run")
        done = commands.run("cleanup")
        daemon.wait_for("; repairing now")
        eventually(True, lambda: {"ip nfproxy", "ip6 nfproxy"} <= set(commands.tables()))

    assert planned == (0, "would remove table ip nfproxy\nwould remove table ip6 nfproxy\n", "")
    assert f"nfproxy runs on this node (process {daemon.process.pid})" in done.err


@modes
def test_own_tables_stay_until_a_kube_proxy_that_runs_has_programmed(
    mode: Mode, node: Namespace, commands: Commands, tmp_path: Path
) -> None:
    """The node would have no proxy meanwhile: its pod runs, but it has not come that far."""
    program(commands)
    process = start_kube_proxy(node, tmp_path)
    before = ruleset(node)
    planned = commands.run("cleanup", "--dry-run")
    refused = commands.run("cleanup")
    unchanged = ruleset(node) == before
    install(node, mode)
    done = commands.run("cleanup")
    node.stop(process)

    assert (planned.code, planned.out.count("would remove table")) == (0, 2)
    assert "would be refused: kube-proxy" in planned.err
    assert (refused.code, refused.out) == (1, "")
    assert f"kube-proxy is running on this node (process {process.pid})" in refused.err
    assert "has not programmed IPv4 and IPv6 yet" in refused.err
    assert unchanged
    assert (done.code, done.out.count("removed table"), done.err) == (0, 2, "")


def test_own_tables_go_by_force_although_kube_proxy_has_not_programmed(
    node: Namespace, commands: Commands, tmp_path: Path
) -> None:
    """Such a kube-proxy may serve nothing here, or in a way that cannot be seen."""
    program(commands)
    process = start_kube_proxy(node, tmp_path)
    done = commands.run("cleanup", "--force")
    node.stop(process)

    assert (done.code, done.out.count("removed table")) == (0, 2)


def test_own_tables_that_serve_nothing_go_although_kube_proxy_has_not_programmed(
    node: Namespace, commands: Commands, tmp_path: Path
) -> None:
    """Nothing is lost with them."""
    commands.nft("add table ip nfproxy")
    process = start_kube_proxy(node, tmp_path)
    done = commands.run("cleanup")
    node.stop(process)

    assert (done.code, done.out) == (0, "removed table ip nfproxy\n")
