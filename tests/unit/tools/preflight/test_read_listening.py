"""
The addresses to listen at: free, or held by whom?
"""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import msgspec
import pytest

from nfproxy.config.kubeproxy import KubeProxyConfiguration
from nfproxy.tools.preflight.facts import Port
from nfproxy.tools.preflight.read.listening import read_ports


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
    """
    It is free again afterwards; an empty one is not listened at.
    """
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
    """
    A proxy says its mode; anybody else is a stranger.
    """
    with page(server, pages) as address:
        (found,) = ports(address)

    assert "another process listens there" in found.trouble
    assert holder == found.holder


def test_who_holds_the_health_port() -> None:
    """
    kube-proxy and nfproxy tell there when they were last in step.
    """
    with page("", {"/healthz": '{"lastUpdated": "now"}'}) as address:
        found = ports("127.0.0.1:0", address)

    assert found[1].holder == "kube-proxy"


def test_a_holder_that_says_nothing() -> None:
    """
    It is waited for a second, and counts as a stranger.
    """
    with socket.create_server(("127.0.0.1", 0)) as silent:
        (found,) = ports(f"127.0.0.1:{silent.getsockname()[1]}")

    assert found.trouble
    assert found.holder == ""
