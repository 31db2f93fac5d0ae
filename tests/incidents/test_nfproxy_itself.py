"""nfproxy does not run, or the kernel does not hold what it should."""

from __future__ import annotations

import contextlib
import http.server
import os
import signal
import socket
import threading
from collections.abc import Iterator

import pytest
from incidents.conftest import Incident
from support.processes.commands import ORDINARY_USER


def test_nfproxy_does_not_run_and_the_kernel_keeps_its_rules(stopped: Incident) -> None:
    with stopped.nfproxy() as daemon:
        daemon.end(signal.SIGKILL)
    assert all(one.answered for one in stopped.clients_try())
    answer = stopped.explain("shop/web")
    assert "warn NobodyRuns" in answer.codes
    assert answer.exit_status == 0


def test_nfproxy_does_not_answer(incident: Incident) -> None:
    """It is stopped, or waits for something; the kernel keeps its rules."""
    daemon = incident.daemon
    assert daemon is not None
    os.kill(daemon.process.pid, signal.SIGSTOP)
    try:
        assert all(one.answered for one in incident.clients_try(times=2))
        answer = incident.explain("shop/web")
    finally:
        os.kill(daemon.process.pid, signal.SIGCONT)
    assert answer.codes == ["warn NfproxySilent"]
    assert "LOOK AT THIS" in answer.first_line


def test_nfproxy_never_ran(stopped: Incident) -> None:
    assert not any(one.answered for one in stopped.clients_try())
    answer = stopped.explain("shop/web")
    assert "fail NobodyRuns" in answer.codes
    assert answer.exit_status == 1


def test_a_hand_removed_an_endpoint(stopped: Incident) -> None:
    with stopped.nfproxy() as daemon:
        daemon.end(signal.SIGKILL)
    stopped.on_node("nft delete element ip nfproxy endpoints-tcp { 10.96.0.10 . 80 . 1 }")
    assert not all(one.answered for one in stopped.clients_try())
    answer = stopped.explain("shop/web")
    assert answer.codes[:2] == ["fail KernelDiffers", "warn NobodyRuns"]
    assert "10.96.0.10:80/tcp" in answer.messages


def test_a_hand_removed_a_frontend(stopped: Incident) -> None:
    with stopped.nfproxy() as daemon:
        daemon.end(signal.SIGKILL)
    stopped.on_node("nft delete element ip nfproxy frontends { 10.96.0.10 . tcp . 80 }")
    assert not any(one.answered for one in stopped.clients_try())
    answer = stopped.explain("shop/web")
    assert answer.codes[:2] == ["fail NotProgrammed", "warn NobodyRuns"]


def test_without_permission_the_depth_is_less(incident: Incident) -> None:
    words = ("explain", "shop/web", "-f", incident.manifests, "-o", "json")
    found = incident.commands.run(*words, prefix=ORDINARY_USER)
    assert found.code == 0, found.err
    assert found.data["seen"]["kernel"] is False
    assert "NET_ADMIN" in "".join(found.data["seen"]["missing"])


#: Without a kubeconfig, which a developer's machine may have.
HOMELESS = ("env", "HOME=/nonexistent", "KUBECONFIG=")


@pytest.mark.parametrize("what", ["10.96.0.10:80", ":30080", "192.168.77.11:30080"])
def test_neither_nfproxy_nor_objects_are_there(stopped: Incident, what: str) -> None:
    """The kernel alone says what serves, and a route that is missing still shows."""
    with stopped.nfproxy() as daemon:
        daemon.end(signal.SIGKILL)
    stopped.clients_try()
    stopped.on_node("ip route add blackhole 10.244.2.11")
    try:
        found = stopped.commands.run("explain", what, "-o", "json", prefix=HOMELESS)
    finally:
        stopped.on_node("ip route del blackhole 10.244.2.11")
    assert found.code == 1, found.err
    assert [one["code"] for one in found.data["findings"]] == ["NoRoute", "NobodyRuns"]
    (port,) = found.data["ports"]
    assert [f"{row['address']}:{row['port']}" for row in port["endpoints"]] == [
        "10.244.1.11:8080",
        "10.244.2.11:8080",
    ]
    assert port["frontends"][0]["newConnections"] == (16 if what.startswith("10.") else 0)
    assert found.data["seen"]["missing"][0].startswith("objects: ")


def test_nothing_is_known_of_an_address_without_objects(stopped: Incident) -> None:
    with stopped.nfproxy() as daemon:
        daemon.end(signal.SIGKILL)
    found = stopped.commands.run("explain", "10.96.0.99:80", "-o", "json", prefix=HOMELESS)
    assert found.code == 1
    assert found.data["findings"][0]["code"] == "NotAService"


@contextlib.contextmanager
def another_program(incident: Incident, port: int) -> Iterator[None]:
    """Let something else answer at a port of the node."""
    listener = incident.node.namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("0.0.0.0", port))
    listener.listen()
    server = http.server.HTTPServer(
        ("", port), http.server.BaseHTTPRequestHandler, bind_and_activate=False
    )
    server.socket.close()
    server.socket = listener
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_another_program_has_the_health_check_node_port(stopped: Incident) -> None:
    with another_program(stopped, 32060), stopped.nfproxy():
        answer = stopped.explain("shop/audit")
    assert answer.codes == ["warn HealthCheckPort", "note NoLocalExternal"]
    assert "32060 answers 501, and not as nfproxy does" in answer.messages
    assert "load balancers should get 503 here" in answer.messages
