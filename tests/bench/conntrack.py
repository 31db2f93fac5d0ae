"""
How long stale UDP flows take to find in a full conntrack table.

Run by ``tests/bench/run.sh conntrack``, or ``python -m bench.conntrack``. Fills a namespace's table
by netlink, cleans it with the daemon's parts and prints a table.
"""

from __future__ import annotations

import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import click
from pyroute2.netlink.nfnetlink.nfctsocket import NFCTAttrTuple, NFCTSocket
from rich.console import Console
from rich.table import Table as RichTable

from bench import machine
from nfproxy.dataplane.conntrack_cleaner import ConntrackCleaner
from nfproxy.errors import NfproxyError
from nfproxy.host.privatenamespace import enter_private_namespace
from nfproxy.model.addresses import Family
from nfproxy.model.service import Protocol
from nfproxy.netlink.messages import attribute
from nfproxy.plan.endpoints import Destination
from nfproxy.plan.flows import CleaningScope
from nfproxy.plan.frontends import FrontendKey
from nfproxy.tools.lab import Lab

HEADS = ("cleaning", "ms", "processor ms", "handed out", "deleted", "longest hold ms")
METHOD = """\
The table holds UDP entries of IPv4 only, spread evenly over the frontends and, within each, over
its endpoints. A cleaning gets the endpoints that serve; "stale" entries lead to the others.
"processor" is that of the cleaning thread, in the kernel too. "longest hold": the most processor
time between two system calls, for so long others in the process may wait for the interpreter's
lock. The pyroute2 rows list without deleting: its plain dump and its filter for one frontend."""

_NETLINK_NETFILTER = 12
_NEW, _CREATE = 0x100, 0x1 | 0x200 | 0x400  # IPCTNL_MSG_CT_NEW; NLM_F_REQUEST, _EXCL, _CREATE
_STATUS = struct.pack("!I", 0x2 | 0x8)  # IPS_SEEN_REPLY, IPS_CONFIRMED
_TIMEOUT = struct.pack("!I", 3600)
_NESTED = 0x8000
_AT_ONCE = 200
_ENDPOINTS = 10
_MANY = 100
_PORT, _TARGET_PORT = 53, 5353


class Flows:
    """The entries of the benchmark, by number."""

    def __init__(self, frontends: int) -> None:
        self._frontends = frontends

    def frontend(self, number: int) -> FrontendKey:
        """Return one of the frontends."""
        return FrontendKey(Family.IPV4, _address("10.96.0.0", number + 1), Protocol.UDP, _PORT)

    def endpoint(self, frontend: int, number: int) -> bytes:
        """Return the address of one endpoint of a frontend."""
        return _address("10.128.0.0", frontend * _ENDPOINTS + number + 1)

    def expected(self, frontends: int, endpoints: int) -> dict[FrontendKey, frozenset[Destination]]:
        """Return some frontends, at which so many endpoints serve."""
        port = struct.pack("!HH", _TARGET_PORT, 0)
        return {
            self.frontend(n): frozenset(self.endpoint(n, e) + port for e in range(endpoints))
            for n in range(frontends)
        }

    def entry(self, number: int) -> bytes:
        """Return the attributes of one entry."""
        frontend = number % self._frontends
        client, client_port = _address("10.244.0.0", number // 4), 1024 + number % 4
        endpoint = self.endpoint(frontend, number // self._frontends % _ENDPOINTS)
        return (
            _tuple(1, client, self.frontend(frontend).address, client_port, _PORT)
            + _tuple(2, endpoint, client, _TARGET_PORT, client_port)
            + attribute(3, _STATUS)
            + attribute(7, _TIMEOUT)
        )


def _address(base: str, number: int) -> bytes:
    (start,) = struct.unpack("!I", socket.inet_aton(base))
    return struct.pack("!I", start + number)


def _tuple(kind: int, source: bytes, destination: bytes, port: int, to_port: int) -> bytes:
    address = attribute(1, source) + attribute(2, destination)
    protocol = attribute(1, bytes((Protocol.UDP,)))
    protocol += attribute(2, port.to_bytes(2, "big")) + attribute(3, to_port.to_bytes(2, "big"))
    both = attribute(1 | _NESTED, address) + attribute(2 | _NESTED, protocol)
    return attribute(kind | _NESTED, both)


def fill(count: int, flows: Flows) -> int:
    """Make entries, as many as the kernel takes; return how many there are then."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as netlink:
        netlink.bind((0, 0))
        for start in range(0, count, _AT_ONCE):
            requests = []
            for number in range(start, min(count, start + _AT_ONCE)):
                body = bytes((Family.IPV4, 0, 0, 0)) + flows.entry(number)
                head = struct.pack("=IHHII", 16 + len(body), _NEW, _CREATE, 0, 0)
                requests.append(head + body)
            netlink.send(b"".join(requests))
            try:
                netlink.recv(1 << 16, socket.MSG_DONTWAIT)
            except BlockingIOError:
                continue
            break  # only what fails is answered: the table is full
    return int(Path("/proc/sys/net/netfilter/nf_conntrack_count").read_text())


class Watched:
    """A socket; notes the most processor time its thread spends between two calls."""

    longest = 0.0
    _since = 0.0

    def __init__(self, inner: socket.socket) -> None:
        self.send, self.recv = self._watch(inner.send), self._watch(inner.recv)
        self.close = inner.close

    @classmethod
    def begin(cls) -> None:
        """Begin again; all sockets count together."""
        cls.longest, cls._since = 0.0, time.thread_time()

    def _watch(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any) -> Any:
            Watched.longest = max(Watched.longest, time.thread_time() - Watched._since)
            try:
                return call(*arguments)
            finally:
                Watched._since = time.thread_time()

        return watched


def measure(count: int, frontends: int) -> Iterator[tuple[str, ...]]:
    """Yield the rows of the table. Runs inside the namespace, in one thread."""
    flows = Flows(frontends)
    held = fill(count, flows)
    yield ("entries in the table", *[""] * 2, f"{held:,}", "", "")
    many = min(frontends, _MANY)
    cases = [
        ("one frontend, nothing stale", 1, _ENDPOINTS),
        ("one frontend, a tenth stale", 1, _ENDPOINTS - 1),
        (f"{many} frontends, nothing stale", many, _ENDPOINTS),
        (f"{many} frontends, a tenth stale", many, _ENDPOINTS - 1),
        (f"all {frontends} frontends, nothing stale", frontends, _ENDPOINTS),
    ]
    for name, number, serving in cases:
        yield _clean(name, flows.expected(number, serving))
    yield from _listed_by_pyroute2(flows)
    for name, serving in (("a tenth stale", _ENDPOINTS - 1), ("everything stale", 0)):
        yield _clean(f"all {frontends} frontends, {name}", flows.expected(frontends, serving))
    yield _clean("one frontend, table empty", flows.expected(1, 0))


def _clean(name: str, flows: dict[FrontendKey, frozenset[Destination]]) -> tuple[str, ...]:
    cleaner = ConntrackCleaner()
    with closing(cleaner):
        cleaner._deleting = Watched(cleaner._deleting)  # type: ignore[assignment]
        cleaner._listing._netlink = Watched(cleaner._listing._netlink)  # type: ignore[assignment]
        Watched.begin()
        began = time.thread_time()
        report = cleaner.clean(flows, CleaningScope())
        spent = time.thread_time() - began
    deleted = report.deleted[Family.IPV4]
    times = (_ms(sum(report.seconds.values())), _ms(spent))
    return name, *times, f"{report.examined:,}", f"{deleted:,}", _ms(Watched.longest)


def _listed_by_pyroute2(flows: Flows) -> Iterator[tuple[str, ...]]:
    address = socket.inet_ntoa(flows.frontend(0).address)
    one = NFCTAttrTuple(daddr=address, proto=Protocol.UDP.value, dport=_PORT)
    for name, wanted in (("pyroute2: one frontend listed", one), ("pyroute2: all listed", None)):
        began, used = time.monotonic(), time.thread_time()
        with NFCTSocket() as netlink:
            count = sum(1 for _ in netlink.dump(tuple_orig=wanted))
        times = (_ms(time.monotonic() - began), _ms(time.thread_time() - used))
        yield name, *times, f"{count:,}", "", ""


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:,.1f}"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--entries", type=click.IntRange(1), default=200_000, show_default=True)
@click.option("--frontends", type=click.IntRange(1, 65_000), default=200, show_default=True)
def main(entries: int, frontends: int) -> None:
    """Clean a full conntrack table, beside pyroute2's listing of it."""
    try:
        enter_private_namespace()
        with Lab() as lab:
            rows = lab.namespace("conntrack").call(lambda: list(measure(entries, frontends)))
    except NfproxyError as error:
        raise click.ClickException(str(error)) from error
    shown = RichTable(title="Stale UDP flows", title_justify="left", title_style="bold")
    for index, head in enumerate(HEADS):
        shown.add_column(head, justify="right" if index else "left", no_wrap=True)
    for row in rows:
        shown.add_row(*row)
    console = Console(width=None if sys.stdout.isatty() else 140)
    facts = "; ".join(f"{name}: {value}" for name, value in machine.facts().items())
    for part in (facts, shown, METHOD):
        console.print(part, soft_wrap=True, highlight=False)
        console.print()


if __name__ == "__main__":
    main(prog_name="bench.conntrack")
