"""Pages for clients on loopback addresses alone."""

import asyncio
import json
import os
from pathlib import Path

import pytest
from support.client.http11 import Reply, exchange, parse
from support.processes.pageservers import serving

from nfproxy.config.flags import Flags
from nfproxy.config.load import effective_config, load
from nfproxy.insight.daemonstatus import STATUS_PATH
from nfproxy.servers.localpages import local_pages, status_page
from nfproxy.servers.pages import by_path

LOADED = load(Flags.of(cluster_cidr="10.244.0.0/16", metrics_bind_address="0.0.0.0"))


def reply(address: str = "127.0.0.1:0", client: str = "", host: str = "localhost") -> Reply:
    """Ask for the status of node-1 at an address, or at `client` where it is given."""
    request = f"GET {STATUS_PATH} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"

    async def asked() -> Reply:
        page = status_page(LOADED, "node-1", "manifests")
        async with serving(by_path(local_pages({STATUS_PATH: page})), address) as place:
            return parse(await exchange((client or place[0], place[1]), request.encode()))

    return asyncio.run(asked())


def test_status_names_the_daemon_and_its_configuration() -> None:
    """Read back, the configuration is the same."""
    found = json.loads(reply().body)

    assert (found["kind"], found["node"], found["pid"]) == ("DaemonStatus", "node-1", os.getpid())
    assert found["manifests"] == str(Path("manifests").absolute())
    assert found["started"].endswith("Z")
    assert effective_config(found["configuration"], "page") == LOADED.config


@pytest.mark.parametrize("client", ["127.0.0.1", "::1"])
def test_loopback_clients_of_a_server_for_all_addresses_are_served(client: str) -> None:
    """The kernel gives an IPv4 client's address in IPv6 form there."""
    assert reply("0.0.0.0:0", client).code == 200


@pytest.mark.parametrize(
    ("host", "code"),
    [
        ("localhost:10249", 200),
        ("127.0.0.1", 200),
        ("[::1]:10249", 200),
        ("192.168.77.11:10249", 200),
        ("rebound.example:10249", 403),
        ("localhost.example", 403),
    ],
)
def test_names_that_another_dns_server_resolves_are_refused(host: str, code: int) -> None:
    """A page of such a name, open in a browser on this machine, could read the answer."""
    found = reply(host=host)

    assert found.code == code
    assert (b"configuration" in found.body) == (code == 200)
