"""``nfproxy trace`` as a person runs it, on a node whose nfproxy follows manifests."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.kernel import rules
from support.packets.sending import probe
from support.packets.steps import CLUSTER_IP, ENDPOINT_PORT
from support.processes.commands import Commands, Result, endpoint_slice, node_object, service, write

from nfproxy.tools.lab import Cluster, Host


@pytest.fixture(scope="module")
def commands(served: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    """The commands on node-1, where nfproxy runs."""
    scratch = tmp_path_factory.mktemp("trace")
    manifests = scratch / "manifests"
    far = served.pod(2, 1)
    piece = endpoint_slice("web", far.ipv4, node="node-2", port=ENDPOINT_PORT)
    piece["endpoints"][0]["targetRef"] = {"kind": "Pod", "namespace": "default", "name": "p21"}
    ports = [{"name": "http", "port": 80}]
    piece["ports"][0]["name"] = "http"
    here = endpoint_slice("near", served.pod(1, 2).ipv4, port=ENDPOINT_PORT)
    write(
        manifests / "web.yaml",
        *(service("web", CLUSTER_IP.ipv4, ports=ports), piece),
        *(service("near", "10.96.0.77"), here, node_object()),
    )
    made = Commands(served.nodes[0].namespace, scratch)
    with made.daemon(manifests, "--cluster-cidr=10.244.0.0/16"):
        yield made


def traced(commands: Commands, cluster: Cluster, *arguments: str) -> Result:
    """Run the command while a pod asks for the Service again and again."""
    return traced_while(commands, cluster.pod(1, 1), (CLUSTER_IP.ipv4, 80), *arguments)


def traced_while(commands: Commands, client: Host, at: tuple[str, int], *arguments: str) -> Result:
    """Run the command while a client asks at an address and port again and again."""
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            probe(client, *at)
            time.sleep(0.05)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        return commands.run("trace", *arguments, "--seconds", "4", "--count", "2")
    finally:
        stop.set()
        asking.join()


def test_connections_by_name(commands: Commands, served: Cluster) -> None:
    """Service, pod and endpoint; the configuration is that of the nfproxy that runs."""
    result = traced(commands, served, "default/web")
    lines = [line.split("\t") for line in result.out.splitlines()]

    assert result.code == 0, result
    assert len(lines) == 2
    for line in lines:
        assert line[2] == f"{CLUSTER_IP.ipv4}:80"
        assert line[3] == f"default/web:http → p21 {served.pod(2, 1).ipv4}:{ENDPOINT_PORT}"
        assert line[4].startswith("answered in ")
    assert "2 connections: 2 answered" in result.err


def test_what_other_nodes_translated(commands: Commands, served: Cluster) -> None:
    """It comes to this node for the endpoint, and is the Service's all the same."""
    at = served.pod(1, 2).ipv4, ENDPOINT_PORT
    result = traced_while(commands, served.pod(2, 1), at, "default/near")

    assert result.code == 0, result
    for line in result.out.splitlines():
        cells = line.split("\t")
        assert cells[1].startswith(f"{served.pod(2, 1).ipv4}:")
        assert cells[2:4] == [f"{at[0]}:{at[1]}", "default/near"]
    assert "2 connections: 2 answered" in result.err


@pytest.mark.parametrize("what", ["web:http", f"{CLUSTER_IP.ipv4}:80"])
def test_a_drop_as_data(commands: Commands, served: Cluster, what: str) -> None:
    """With rule and comment, for a Service or an address; exit status 1."""
    comment = 'comment "NetworkPolicy shop/deny-all"'
    rule = f"tcp dport {ENDPOINT_PORT} drop {comment}"
    chain = f"chain forward {{\n type filter hook forward priority 0\n {rule}\n }}"
    rules.load(served.nodes[0], f"table inet cni {{\n {chain}\n}}")
    try:
        result = traced(commands, served, what, "-o", "json")
    finally:
        rules.load(served.nodes[0], "delete table inet cni\n")
    found = json.loads(result.out)

    assert result.code == 1
    assert (found["kind"], found["incomplete"]) == ("Trace", False)
    for row in found["connections"]:
        assert row["code"] == "DroppedByOthers"
        assert row["droppedBy"]["table"] == "cni"
        assert comment in row["droppedBy"]["text"]


def test_without_packets_it_could_not_find_out(commands: Commands) -> None:
    """No client connects."""
    result = commands.run("trace", "default/web", "--seconds", "0.2")

    assert (result.code, result.out) == (2, "")
    assert "no packet to default/web came in 0.2 s" in result.err


def test_a_service_that_has_no_address(commands: Commands, tmp_path: Path) -> None:
    """It names the command that says why."""
    path = write(tmp_path / "none.yaml", service("none", "None"), node_object())
    result = commands.run("trace", "default/none", "-f", path, "--seconds", "0.2")

    assert result.code == 2
    assert "`nfproxy explain default/none` says why" in result.err
