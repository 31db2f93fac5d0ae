"""``nfproxy run`` with node ports on loopback addresses: listeners, restarts, and metrics."""

import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support.processes.commands import (
    Commands,
    endpoint_slice,
    eventually,
    node_object,
    service,
    write,
)

NODE_PORT = 30080
ENDPOINT = ("10.244.1.5", 8080)
PORTS = [{"port": 80, "protocol": "TCP", "nodePort": NODE_PORT}]
GATE_OFF = "--feature-gates=KubeProxyNFTablesLocalhostNodePorts=false"
UDP_GATE = "--feature-gates=NfproxyUDPLocalhostNodePorts=true"
METRIC = "kubeproxy_nftables_localhost_nodeport_"


@pytest.fixture
def endpoint(commands: Commands) -> Iterator[None]:
    """A server at the endpoint's address that sends back what it receives, in upper case."""
    for words in (["link", "set", "lo", "up"], ["address", "add", ENDPOINT[0], "dev", "lo"]):
        commands.namespace.run(["ip", *words])
    server = commands.namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(ENDPOINT)
    server.listen()

    def serve() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            with client:
                while data := client.recv(4096):
                    client.sendall(data.upper())
                client.sendall(b"!")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join(5)


def answer(commands: Commands) -> str:
    """Return what a client at 127.0.0.1 gets for ``hello`` and a half-close."""
    with closing(commands.namespace.socket(socket.AF_INET, socket.SOCK_STREAM)) as client:
        client.settimeout(20)
        try:
            client.connect(("127.0.0.1", NODE_PORT))
        except ConnectionRefusedError:
            return "refused"
        received = b""
        try:
            client.sendall(b"hello")
            client.shutdown(socket.SHUT_WR)
            while data := client.recv(4096):
                received += data
        except ConnectionError:  # the listener is being closed, and its connections with it
            return "cut"
        return received.decode()


def metrics(commands: Commands) -> dict[str, float]:
    """Return the IPv4 series of the metrics about loopback addresses, for TCP."""

    def read() -> str:
        with urllib.request.urlopen("http://127.0.0.1:10249/metrics") as page:
            return str(page.read(), "utf-8")

    rows = (line.rpartition(" ") for line in commands.namespace.call(read).splitlines())
    wanted = {
        name.removeprefix(METRIC): float(value)
        for name, _, value in rows
        if name.startswith(METRIC)
    }
    return {
        name.partition("{")[0]: value
        for name, value in wanted.items()
        if "IPv4" in name and "udp" not in name and "sctp" not in name
    }


@pytest.mark.usefixtures("endpoint")
def test_settings_follow_a_restart(commands: Commands, manifests: Path) -> None:
    """
    Rejected by default; served with ``localhost``; nothing stale behind either. The gate set to
    false takes the metrics away, too.
    """
    write(manifests / "all.json", node_object(), service(type="NodePort", ports=PORTS))
    write(manifests / "endpoints.json", endpoint_slice("web", ENDPOINT[0]))
    localhost = "--nodeport-addresses=primary,localhost"

    with commands.daemon(manifests):
        assert answer(commands) == "refused"
        assert metrics(commands) == {"listeners": 0, "rejected_packets_total": 1}
    with commands.daemon(manifests, localhost):
        eventually("HELLO!", lambda: answer(commands))
        assert metrics(commands)["listeners"] == 1
    with commands.daemon(manifests):
        assert answer(commands) == "refused"
        assert metrics(commands)["rejected_packets_total"] >= 2
    with commands.daemon(manifests, localhost, GATE_OFF):
        assert answer(commands) == "refused"  # by the host, where no process listens
        assert metrics(commands) == {}


@pytest.mark.usefixtures("endpoint")
def test_listeners_follow_endpoints_and_a_taken_port(commands: Commands, manifests: Path) -> None:
    """None without endpoints; a port that another process has is served at a later sync."""
    write(manifests / "all.json", node_object(), service(type="NodePort", ports=PORTS))
    path = write(manifests / "endpoints.json", endpoint_slice("web"))
    other = commands.namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
    with closing(other), commands.daemon(manifests, "--nodeport-addresses=localhost") as daemon:
        assert answer(commands) == "refused"
        other.bind(("127.0.0.1", NODE_PORT))
        other.listen()
        write(path, endpoint_slice("web", ENDPOINT[0]))
        daemon.wait_for(f"Service default/web: node port {NODE_PORT} is not served on 127.0.0.1")
        assert metrics(commands)["listener_creation_failures_total"] >= 1
        other.close()
        write(manifests / "other.json", service("other", "10.96.0.9"))
        eventually("HELLO!", lambda: answer(commands))
        write(path, endpoint_slice("web"))
        eventually("refused", lambda: answer(commands))
        eventually(0, lambda: metrics(commands)["listeners"])


@pytest.mark.parametrize(
    ("entries", "answers"),
    [
        ("primary,localhost", True),
        ("127.0.0.0/8", True),
        ("primary,::1/128", False),
        ("primary", False),
    ],
)
def test_health_checks_are_answered_where_an_entry_names_loopback(
    commands: Commands, manifests: Path, entries: str, answers: bool
) -> None:
    """kube-proxy listens there for the health check node ports of Services, too."""
    commands.namespace.run(["ip", "link", "set", "lo", "up"])
    local = {"externalTrafficPolicy": "Local", "healthCheckNodePort": 32000}
    with_policy = service(type="LoadBalancer", ports=PORTS, **local)
    write(manifests / "all.json", node_object(), with_policy)

    def connects() -> bool:
        with commands.namespace.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
            return client.connect_ex(("127.0.0.1", 32000)) == 0

    with commands.daemon(manifests, f"--nodeport-addresses={entries}"):
        eventually(answers, connects)


def test_udp_is_served_where_a_gate_says_so(commands: Commands, manifests: Path) -> None:
    """Off by default, as in kube-proxy; nothing stale behind either."""
    for words in (["link", "set", "lo", "up"], ["address", "add", ENDPOINT[0], "dev", "lo"]):
        commands.namespace.run(["ip", *words])
    ports = [{"port": 80, "protocol": "UDP", "nodePort": NODE_PORT}]
    slices = endpoint_slice("web", ENDPOINT[0], ports=[{"port": 8080, "protocol": "UDP"}])
    write(manifests / "all.json", node_object(), service(type="NodePort", ports=ports), slices)
    localhost, gate = "--nodeport-addresses=localhost", UDP_GATE

    with commands.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(ENDPOINT)
        server.settimeout(1)

        def asked() -> str:
            with commands.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.settimeout(1)
                client.connect(("127.0.0.1", NODE_PORT))
                try:
                    client.send(b"hello")
                except PermissionError:  # what a sender hears of a rejection in its own kernel
                    return "refused"
                try:
                    data, proxy = server.recvfrom(100)
                    server.sendto(data.upper(), proxy)
                    return client.recv(100).decode()
                except OSError:
                    return "no answer"  # the port is about to be opened

        for flags, expected in (
            ((localhost,), "refused"),
            ((localhost, gate), "HELLO"),
            (("--nodeport-addresses=primary", gate), "refused"),
            ((localhost,), "refused"),
        ):
            with commands.daemon(manifests, *flags):
                eventually(expected, asked)
                assert commands.run("diff", "-f", manifests, *flags).code == 0
