"""
``nfproxy run`` as the DaemonSet's containers run it: CAP_NET_ADMIN alone, and nowhere to write.
"""

from __future__ import annotations

import re
from pathlib import Path

from support.containers.restrictions import CONTAINER, init_container
from support.processes.commands import (
    ROOT,
    Commands,
    endpoint_slice,
    errors_in,
    node_object,
    package_copy,
    service,
    write,
)

SYSCTLS = (
    "--conntrack-max-per-core=0",
    "--conntrack-tcp-timeout-close-wait=0",
    "--conntrack-tcp-timeout-established=23h",
)
ESTABLISHED = Path("/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established")


def test_the_container_of_these_tests_has_nowhere_to_write(commands: Commands) -> None:
    """Else the tests below would show nothing."""
    places = "/ /tmp /var/tmp /run /proc/sys/net/netfilter $HOME $PWD"
    script = f"for at in {places}; do touch $at/probe 2>/dev/null && echo $at; done; grep ^CapEff "
    done = commands.namespace.run([*CONTAINER, "sh", "-c", f"{script} /proc/self/status"])

    assert done.stdout.split() == ["CapEff:", f"{1 << 12:016x}"]


def test_the_init_container_sets_what_the_daemon_then_finds(
    commands: Commands, tmp_path: Path
) -> None:
    """Its own /proc is read-only, the node's is where --proc says."""
    at = tmp_path / "host-proc"
    prefix = init_container(str(at))
    first = commands.run("run", "--init-only", "--proc", at, *SYSCTLS, prefix=prefix)
    second = commands.run("run", "--init-only", *SYSCTLS, prefix=CONTAINER)

    assert first.code == second.code == 0, first.err + second.err
    assert f"{at}/sys/net/netfilter/nf_conntrack_tcp_timeout_established: " in first.err
    assert "this node is prepared" in second.err
    assert commands.namespace.call(ESTABLISHED.read_text).strip() == "82800"


def test_init_only_fails_where_it_may_not_write(commands: Commands) -> None:
    """It is there for nothing else; the line says how to do it."""
    before = commands.namespace.call(ESTABLISHED.read_text)
    result = commands.run("run", "--init-only", *SYSCTLS, prefix=CONTAINER)

    assert (result.code, result.out) == (1, "")
    assert "tcp_timeout_established to 82800 (Read-only file system)" in result.err
    assert "sysctl -w net.netfilter.nf_conntrack_tcp_timeout_established=82800" in result.err
    assert commands.namespace.call(ESTABLISHED.read_text) == before
    assert commands.tables() == []


def test_init_only_without_the_nodes_proc(commands: Commands, tmp_path: Path) -> None:
    """The volume was forgotten."""
    result = commands.run("run", "--init-only", "--proc", tmp_path, *SYSCTLS, prefix=CONTAINER)

    assert result.code == 1
    assert f"--proc: {tmp_path}/sys/net does not exist" in result.err


#: A namespace of a user who is root there alone.
INSIDE = ("unshare", "--user", "--map-root-user", "--net", "--")


def test_a_first_load_of_any_size_fits_a_buffer_that_cannot_grow(
    commands: Commands, manifests: Path, tmp_path: Path
) -> None:
    """In a user namespace the send buffer has the system's limit, 208 KB on most machines."""
    sockets = (ROOT / "nfproxy/netlink/sockets.py").read_text()
    limited = re.sub(r"(?m)^_MOST_BYTES = .*", "_MOST_BYTES = 212992", sockets)
    assert limited != sockets
    root = package_copy(tmp_path / "limited", {"netlink/sockets.py": limited})
    objects = [node_object()]
    for number in range(3000):
        where = f"{number >> 8}.{number & 255}"
        ports = [{"port": 80, "nodePort": 10000 + number, "protocol": "TCP"}]
        name = f"s{number}"
        objects.append(service(name, f"10.96.{where}", type="NodePort", ports=ports))
        ends = [f"10.{128 + n}.{where}" for n in range(1 + number % 50)]
        objects.append(endpoint_slice(name, *ends))
    write(manifests / "many.json", *objects)
    contained = Commands(commands.namespace, tmp_path, root)
    with contained.daemon(manifests, prefix=INSIDE) as daemon:
        assert errors_in(daemon.log) == []
        enter = ("nsenter", "-U", "-n", "--preserve-credentials", "-t", str(daemon.process.pid))
        listed = commands.namespace.run(
            [*enter, "nft", "list", "map", "ip", "nfproxy", "frontends"]
        )
        assert listed.stdout.count("10.96.") == 3000
