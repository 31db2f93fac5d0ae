"""
``nfproxy run`` as the DaemonSet's containers run it: CAP_NET_ADMIN alone, and nowhere to write.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
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

from nfproxy.model.addresses import FAMILIES, Family

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


#: Prints the generation of a namespace's ruleset: how many transactions there have been.
GENERATION = (
    *("env", f"PYTHONPATH={ROOT}:{ROOT / 'tests'}", sys.executable, "-P", "-c"),
    "from support.processes import commands; print(commands.generation())",
)


def many_shapes() -> list[dict[str, Any]]:
    """Return a Node, and Services of 2 x 120 shapes."""
    objects = [node_object()]
    for number in range(1, 61):
        for family in FAMILIES:
            six = family is Family.IPV6
            cluster_ip = f"fd00:10:96::{number:x}" if six else f"10.96.0.{number}"
            name = f"s{number}-{family.label.lower()}"
            ports = [{"port": 80, "nodePort": 30000 + number, "protocol": "TCP"}]
            policy = {"externalTrafficPolicy": "Local"} if number % 2 else {}
            policy |= {"sessionAffinity": "ClientIP"} if number % 3 == 0 else {}
            objects.append(service(name, cluster_ip, type="NodePort", ports=ports, **policy))
            prefix = f"fd00:10:244:{number:x}::" if six else f"10.244.{number}."
            objects.append(endpoint_slice(name, *(f"{prefix}{n}" for n in range(1, number + 1))))
    return objects


@pytest.mark.parametrize("buffer", ["the default", 32 << 10])
def test_dozens_of_shapes_fit_a_buffer_that_cannot_grow(
    commands: Commands, manifests: Path, tmp_path: Path, buffer: str | int
) -> None:
    """The daemon loads them, and `diff` loads them to compare; both as few times as it takes."""
    root = ROOT
    if isinstance(buffer, int):  # the kernel enforces it, whatever the machine's limit is
        sockets = (ROOT / "nfproxy/netlink/sockets.py").read_text()
        small = re.sub(r"(?m)^_MOST_BYTES = .*", f"_MOST_BYTES = {buffer}", sockets)
        assert small != sockets
        root = package_copy(tmp_path / "small", {"netlink/sockets.py": small})
    write(manifests / "many.json", *many_shapes())
    contained = Commands(commands.namespace, tmp_path, root)
    with contained.daemon(manifests, prefix=INSIDE) as daemon:
        assert errors_in(daemon.log) == []
        enter = ("nsenter", "-U", "-n", "--preserve-credentials", "-t", str(daemon.process.pid))
        transactions = int(commands.namespace.run([*enter, *GENERATION]).stdout)
        done = contained.run("diff", "-f", manifests, prefix=enter)
        assert (done.code, done.out[:7]) == (0, "equal: "), done.err
    print(transactions)
    assert transactions <= (12 if buffer == "the default" else 80)


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
