"""
A node with an API server on it: ``nfproxy run`` as a process that follows a stand-in.

::

    with site_in(lab.namespace("node"), tmp_path) as site:
        site.api.apply(node_object(), service(), endpoint_slice("web", "10.244.1.5"))
        with site.daemon() as daemon:
            eventually({"10.96.0.1:80/tcp": ("10.244.1.5:8080",)}, site.commands.frontends)
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

from support.apiserver import StandIn
from support.apiserver.realapi import RealApi
from support.processes.commands import NODE, Commands, Daemon, Result, eventually, wait_until

from nfproxy.tools.lab import Lab, Namespace

HEALTH_PORT, METRICS_PORT = 10256, 10249

#: What keeps the daemon from changing what belongs to the whole machine, and lets it act at once:
#: on a fault it asks for everything again, more often than 5 times a second.
FLAGS = (
    "--cluster-cidr=10.244.0.0/16,fd00:10:244::/48",
    "--conntrack-max-per-core=0",
    "--conntrack-tcp-timeout-established=0",
    "--conntrack-tcp-timeout-close-wait=0",
    "--iptables-min-sync-period=10ms",
    "--kube-api-qps=100",
    "--kube-api-burst=100",
)

#: Statements for a daemon: Events that every node sees are not spread over half a minute.
EVENTS_AT_ONCE = "from nfproxy.apiserver import eventposter; eventposter.SPREAD_S = 0.0"


class Answer(NamedTuple):
    """An answer to a HTTP request."""

    code: int
    body: str

    @property
    def data(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Site:
    """
    An API server in a namespace, and nfproxy's commands there, for node-1.

    `kubeconfig` is what the daemon is given; it may be written again.
    """

    def __init__(self, namespace: Namespace, scratch: Path, api: Any) -> None:
        """Take the namespace, a directory, and the API server: a stand-in, or a RealApi."""
        self.namespace = namespace
        self.api = api
        self.commands = Commands(namespace, scratch)
        self.kubeconfig = api.write_kubeconfig(scratch / "kubeconfig")

    def daemon(
        self,
        *flags: object,
        ready: bool = True,
        prefix: Sequence[str] = (),
        kubeconfig: bool = True,
        node: str = NODE,
        prepare: str = "",
    ) -> AbstractContextManager[Daemon]:
        """Run the daemon; without `kubeconfig` it is to find the API server otherwise."""
        named = ("--kubeconfig", self.kubeconfig) if kubeconfig else ()
        return self.commands.daemon(
            None, *named, *FLAGS, *flags, prefix=prefix, ready=ready, node=node, prepare=prepare
        )

    # -- the kernel -------------------------------------------------------------------------

    def add_node_addresses(self) -> None:
        """Give the namespace the addresses of :func:`node_object`, as a node has them."""
        for address in ("192.168.77.11/24", "fd77::11/64"):
            self.namespace.run(["ip", "address", "replace", address, "dev", "lo", "nodad"])

    def serves(self, expected: Mapping[str, tuple[str, ...]]) -> None:
        """Assert that the kernel comes to hold exactly these frontends and endpoints."""
        eventually(dict(expected), self.commands.frontends)

    def programs_nothing(self) -> None:
        """Assert that there is no table."""
        assert self.commands.tables() == []

    def diff(self) -> Result:
        """Run ``nfproxy diff``, which reads the API server for itself."""
        return self.commands.run("diff", "--kubeconfig", self.kubeconfig, FLAGS[0])

    def is_in_step(self) -> None:
        """Assert that the kernel holds what the API server says."""
        done = self.diff()
        assert done.code == 0, done
        assert re.fullmatch(r"equal: .* says\n", done.out), done

    # -- interfaces -------------------------------------------------------------------------

    def page(self, port: int, path: str, address: str = "127.0.0.1") -> Answer:
        """Ask a server in the namespace. Raises OSError where no process listens."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        connection = http.client.HTTPConnection(address, port, timeout=10)
        connection.sock = self.namespace.socket(family, socket.SOCK_STREAM)
        with contextlib.closing(connection):
            connection.sock.settimeout(10)
            connection.sock.connect((address, port))
            connection.request("GET", path, headers={"Connection": "close"})
            answer = connection.getresponse()
            return Answer(answer.status, answer.read().decode())

    def code(self, path: str, port: int = HEALTH_PORT, address: str = "127.0.0.1") -> int:
        """Return the status of an answer, 0 where no process listens."""
        try:
            return self.page(port, path, address).code
        except ConnectionRefusedError:
            return 0

    def metric(self, name: str, **labels: str) -> float:
        """Return a sample, or the sum of those that have these labels among others; 0 for none."""
        total = 0.0
        for line in self.page(METRICS_PORT, "/metrics").body.splitlines():
            sample, _, value = line.rpartition(" ")
            if sample.partition("{")[0] == name and _has(sample, labels):
                total += float(value)
        return total

    def events(self, reason: str) -> list[dict[str, Any]]:
        """Return the Events with a reason that are there by now."""
        return [event for event in self.api.posted_events() if event["reason"] == reason]

    def wait_for_event(self, reason: str) -> dict[str, Any]:
        """Wait for an Event, and return it."""
        wait_until(lambda: self.events(reason))
        (event,) = self.events(reason)
        return event


@contextlib.contextmanager
def site_in(namespace: Namespace, scratch: Path, **settings: Any) -> Iterator[Site]:
    """Start a stand-in in a namespace; its loopback interface gets up. For settings see there."""
    namespace.run(["ip", "link", "set", "lo", "up"])
    scratch.mkdir(exist_ok=True)
    with StandIn(namespace, **settings) as api:
        yield Site(namespace, scratch, api)


@contextlib.contextmanager
def shared_site(scratch: Path, *objects: Mapping[str, Any]) -> Iterator[Site]:
    """
    A site whose daemon runs, with some objects: for tests that only change others.

    Its API server is a stand-in, or the real one that NFPROXY_TEST_APISERVER names; that one's
    namespace, which the tests then run in, is the daemon's, too.
    """
    real = RealApi.given()
    with contextlib.ExitStack() as stack:
        lab = stack.enter_context(Lab())
        if real is None:
            made = stack.enter_context(site_in(lab.namespace("node"), scratch))
        else:
            made = Site(lab.here("api"), scratch, real)
        made.api.apply(*objects)
        with made.daemon():
            made.api.wait_for_watches(count=4)
            yield made


def _has(sample: str, labels: Mapping[str, str]) -> bool:
    return all(f'{label}="{value}"' in sample for label, value in labels.items())
