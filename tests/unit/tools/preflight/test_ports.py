"""Node ports, and the addresses the daemon listens at."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import msgspec
import pytest

from nfproxy.config.kubeproxy import KubeProxyConfiguration
from nfproxy.tools.preflight.findings import Level
from nfproxy.tools.preflight.ports import (
    Port,
    judge_ephemeral_ports,
    judge_listening,
    port_range,
    read_ports,
)

NODE_PORTS = (30000, 32767)


@contextmanager
def page(server: str, pages: dict[str, str]) -> Iterator[str]:
    """Serve some pages; give the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path in pages else 404)
            self.end_headers()
            self.wfile.write(pages.get(self.path, "").encode())

        def version_string(self) -> str:
            return server

        def log_message(self, *_: object) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Handler) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{made.server_port}"
        finally:
            made.shutdown()
            thread.join()


def ports(metrics: str, health: str = "") -> tuple[Port, ...]:
    """Look at these addresses."""
    config = KubeProxyConfiguration()
    return read_ports(
        msgspec.structs.replace(config, metrics_bind_address=metrics, healthz_bind_address=health)
    )


def test_an_address_that_is_free() -> None:
    """It is free again afterwards; an empty address is not tried."""
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{opened.getsockname()[1]}"
    expected = (Port("metrics", address),)

    assert expected == ports(address)
    assert expected == ports(address)


@pytest.mark.parametrize(
    ("server", "pages", "holder"),
    [
        ("", {"/proxyMode": "iptables"}, "kube-proxy (mode iptables)"),
        ("nfproxy", {"/proxyMode": "nftables"}, "nfproxy"),
        ("", {"/proxyMode": "<html>"}, ""),
        ("nginx", {}, ""),
    ],
)
def test_who_holds_the_metrics_port(server: str, pages: dict[str, str], holder: str) -> None:
    """A proxy answers with its mode; any other program stays unnamed."""
    with page(server, pages) as address:
        (found,) = ports(address)

    assert "another process listens there" in found.trouble
    assert holder == found.holder


def test_who_holds_the_health_port() -> None:
    """kube-proxy and nfproxy report there when they last synced."""
    with page("", {"/healthz": '{"lastUpdated": "now"}'}) as address:
        found = ports("127.0.0.1:0", address)

    assert found[1].holder == "kube-proxy"


def test_a_holder_that_says_nothing() -> None:
    """After a second without an answer the program stays unnamed."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        (found,) = ports(f"127.0.0.1:{silent.getsockname()[1]}")

    assert found.trouble
    assert found.holder == ""


@pytest.mark.parametrize(
    ("port", "hard_fail", "level"),
    [
        (Port("health", "0.0.0.0:10256"), True, Level.OK),
        (Port("health", "0.0.0.0:10256", "in use", "kube-proxy"), True, Level.OK),
        (Port("health", "0.0.0.0:10256", "in use", "nfproxy"), True, Level.OK),
        (Port("health", "0.0.0.0:10256", "in use"), False, Level.WARN),
        (Port("health", "0.0.0.0:10256", "in use"), True, Level.FAIL),
    ],
)
def test_addresses_to_listen_at(port: Port, hard_fail: bool, level: Level) -> None:
    """Another program there is fatal only with bindAddressHardFail; a proxy is about to leave."""
    (found,) = judge_listening([port], hard_fail, "")

    assert level is found.level


def test_the_addresses_of_the_nfproxy_that_runs_here_need_no_word() -> None:
    """`own-tables` says that it runs; what another program holds is still said."""
    ours = Port("metrics", "127.0.0.1:10249", "in use", "nfproxy")
    other = Port("health", "0.0.0.0:10256", "in use")

    assert judge_listening([ours], True, "pid 7, node n") == []
    assert [found.level for found in judge_listening([ours, other], True, "pid 7")] == [Level.FAIL]


@pytest.mark.parametrize(
    ("ephemeral", "reserved", "level"),
    [
        ("32768\t60999", "", Level.OK),
        ("1024 29999", "", Level.OK),
        ("32767 60999", "", Level.WARN),
        ("20000 40000", "", Level.WARN),
        ("20000 40000", "30000-32767", Level.OK),
        ("20000 40000", "1-5,30000-31000,31001-32767", Level.OK),
        ("20000 40000", "30000-31000,31002-32767", Level.WARN),
        ("32767 60999", "32767", Level.OK),
        ("20000 40000", "what,-,30000", Level.WARN),
        ("", "", Level.WARN),
        ("9 1", "", Level.WARN),
    ],
)
def test_ephemeral_ports(ephemeral: str, reserved: str, level: Level) -> None:
    """An overlap with node ports does no harm where all of it is reserved."""
    found = {"ipv4.ip_local_port_range": ephemeral, "ipv4.ip_local_reserved_ports": reserved}

    assert level is judge_ephemeral_ports(found, NODE_PORTS).level


def test_the_remedy_keeps_what_is_reserved() -> None:
    """Writing the sysctl replaces its whole value."""
    found = {"ipv4.ip_local_port_range": "20000 40000", "ipv4.ip_local_reserved_ports": "8080"}

    assert judge_ephemeral_ports(found, NODE_PORTS).remedy.endswith("=8080,30000-32767")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30000-32767", (30000, 32767)),
        ("1\t65535", (1, 65535)),
        ("0-1", None),
        ("2-1", None),
        ("1-65536", None),
        ("-1-5", None),
        ("²-5", None),
        ("99999999999999999999-5", None),
        ("5", None),
    ],
)
def test_ranges(text: str, expected: tuple[int, int] | None) -> None:
    """Two ports in ascending order, or None."""
    assert expected == port_range(text)
