"""What preflight reads from a node: tables, interfaces, the host's nft."""

from __future__ import annotations

import os
import pty
import re
import subprocess
from pathlib import Path

import msgspec
import pytest
from support.processes.commands import Commands
from tools.nft_versions import versions

from nfproxy.errors import MissingFeatureError
from nfproxy.model.addresses import FAMILIES
from nfproxy.tools.lab import Namespace
from nfproxy.tools.preflight import trial
from nfproxy.tools.preflight.findings import Level, NodeReport
from nfproxy.tools.preflight.network import read_links
from nfproxy.tools.preflight.nft import TableListing, read_listing
from nfproxy.tools.preflight.ruleset import family_word, read_ruleset

PROC = Path("/proc")

#: Written by a newer nft, this makes an older one crash on any command in the network namespace: a
#: set declared with `type`, and an anonymous map keyed by numgen. kube-proxy has both.
TYPED = """
table ip typed {
    map services {
        type ipv4_addr . inet_proto . inet_service : verdict
    }
    chain choose {
        dnat to numgen random mod 2 map { 0 : 10.0.0.1, 1 : 10.0.0.2 }
    }
    chain prerouting {
        type nat hook prerouting priority -100;
        jump choose
    }
}
"""
TABLES = """
table inet firewall {
    chain forward {
        type filter hook forward priority filter; policy drop;
    }
    chain input {
        type filter hook input priority filter; policy accept;
    }
    chain regular { }
}
table ip raw {
    chain PREROUTING {
        type filter hook prerouting priority raw;
        ip daddr 10.96.0.10 udp dport 53 counter notrack
    }
}
table netdev early {
}
"""


@pytest.fixture
def node(commands: Commands) -> Namespace:
    """An empty network namespace."""
    return commands.namespace


def test_tables_and_chains_of_every_family(commands: Commands, node: Namespace) -> None:
    """Chains come with their hooks and the codes of their policies: 0 drops."""
    commands.nft(TABLES)
    found = node.call(read_ruleset, PROC)

    assert {"inet firewall", "ip raw", "netdev early"} == set(found.tables)
    assert {
        ("inet", "firewall", "forward", "forward", 0),
        ("inet", "firewall", "input", "input", 1),
        ("inet", "firewall", "regular", "", None),
        ("ip", "raw", "PREROUTING", "prerouting", 1),
    } == {(family_word(c.family), c.table, c.name, c.ip_hook, c.policy) for c in found.chains}
    assert (found.legacy, found.legacy_text) == ((), "")


def test_rules_that_leave_connections_untracked(commands: Commands, node: Namespace) -> None:
    """A listing shows them; where there is too much to list, libnftables only checks the script."""
    commands.nft(TABLES)
    script = "add table ip nfproxy"
    listed = node.call(read_listing, script, 4)

    assert ("10.96.0.10" in listed.untracked[0], listed.trouble) == (True, None)
    assert TableListing(listed=False) == node.call(read_listing, script, 1_000_000)
    assert "refused" in str(node.call(read_listing, "add nonsense", 4).trouble)
    assert "ip nfproxy" not in commands.tables()


def test_interfaces(node: Namespace) -> None:
    """They come with kinds and addresses, a bridge with the number of its ports."""
    for command in (
        "link add br0 type bridge",
        "link add a0 type veth peer name b0",
        "link set a0 master br0",
        "link set b0 master br0",
        "address add 10.0.0.1/24 dev br0",
        "address add fd00::1/64 dev br0 nodad",
    ):
        node.run(["ip", *command.split()])
    links = {link.name: link for link in node.call(read_links)}

    assert (links["br0"].kind, links["br0"].port_count) == ("bridge", 2)
    assert {"10.0.0.1", "fd00::1"} <= set(links["br0"].addresses)
    assert (links["a0"].kind, links["a0"].port_count) == ("veth", 0)


def test_a_hosts_nft_that_crashes_on_our_tables(node: Namespace, tmp_path: Path) -> None:
    """The trial survives the crash and reports it; the program's own result stays."""
    crash = tmp_path / "nft"
    crash.write_text("#!/bin/sh\nkill -SEGV $$\n")
    crash.chmod(0o755)
    found = node.call(trial.read_trial, FAMILIES, [str(crash)])
    real = node.call(trial.read_trial, FAMILIES, ["nft"])

    assert (found.place, found.refused) == ("namespace", "")
    assert "signal 11" in (found.host_nft or "")
    assert real.host_nft == ""


def test_a_hosts_nft_that_hangs_is_not_left_behind(
    node: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trial ends in time, and so does what it started."""
    hang, started = tmp_path / "nft", tmp_path / "started"
    hang.write_text(f"#!/bin/sh\necho $$ > {started}\nexec sleep 600\n")
    hang.chmod(0o755)
    monkeypatch.setattr(trial, "LIMIT_S", 6.0)

    with pytest.raises(MissingFeatureError, match="took longer than 6 s"):
        node.call(trial.read_trial, FAMILIES, [str(hang)])

    assert not Path("/proc", started.read_text().strip()).exists()


def test_tables_of_a_newer_nft(commands: Commands, node: Namespace) -> None:
    """Where they crash the node's nft and libnftables, both fail; elsewhere neither does."""
    newest = max(versions(), key=lambda nft: nft.release)
    node.run([newest.command, "-f", "-"], input=TYPED)
    crashes = node.run(["nft", "list", "tables"], check=False).returncode < 0
    arguments = ("--host-root", "/", "--master", "https://127.0.0.1:9", "-o", "json")
    result = commands.run("preflight", *arguments)
    found = {line.check: line for line in msgspec.json.decode(result.out, type=NodeReport).checks}

    expected = Level.FAIL if crashes else Level.OK
    assert (expected, expected) == (found["others-tables"].level, found["host-nft"].level)
    assert ("SIGSEGV" in found["others-tables"].found) is crashes
    assert ("upgrade the older" in found["host-nft"].remedy) is crashes
    assert found["program"].level is Level.OK


def test_a_host_seen_from_a_container(commands: Commands, tmp_path: Path) -> None:
    """preflight calls the host's nft in the host's root directory; it has to read our tables."""
    host = tmp_path / "host"
    host.mkdir()
    mounted = ("unshare", "--mount", "sh", "-euc", 'mount --rbind / "$0"; exec "$@"', str(host))
    arguments = ("--host-root", host, "--master", "https://127.0.0.1:9", "-o", "json")
    result = commands.run("preflight", *arguments, prefix=mounted)
    found = {line.check: line for line in msgspec.json.decode(result.out, type=NodeReport).checks}

    version = subprocess.run(["nft", "--version"], capture_output=True, text=True, check=True)
    number = version.stdout.split()[1].removeprefix("v")
    assert found["host-nft"].level is Level.OK
    assert f"the host's nft {number} reads what libnftables" in found["host-nft"].found


def test_a_terminal_gets_a_table(commands: Commands, node: Namespace) -> None:
    """It shows what preflight waits for, then the findings with remedies, and a sum in the end."""
    node.run(["ip", "link", "set", "lo", "up"])
    leader, follower = pty.openpty()
    argv = commands.argv("preflight", "--host-root", "/", "--master", "https://127.0.0.1:9")
    argv[argv.index("env") + 1 : argv.index("env") + 1] = ["TERM=xterm"]
    process = node.start(argv, stdin=subprocess.DEVNULL, stdout=follower, stderr=follower)
    os.close(follower)
    text = _everything(leader)
    process.wait(60)

    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)
    assert "looking at" in text
    assert "CHECK" in text
    assert "127.0.0.1:9 refuses connections" in text
    assert "→ check that the API server runs there" in plain
    assert "node node-1:" in text
    assert " fail" in text.splitlines()[-1]


def _everything(leader: int) -> str:
    """Read what is written to a terminal until its last writer closes it."""
    found = b""
    with os.fdopen(leader, "rb", buffering=0) as file:
        while True:
            try:
                chunk = file.read(4096)
            except OSError:  # EIO: the other side is closed
                break
            if not chunk:
                break
            found += chunk
    return found.decode()
