"""
The requests that the demo makes, and their expected results.

The addresses are those of the example manifests and of :class:`nfproxy.tools.lab.Cluster`.
"""

from __future__ import annotations

import socket
from collections import Counter
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import NamedTuple

import msgspec

from nfproxy.tools.demo.results import DemoError, RequestResult
from nfproxy.tools.lab import Cluster, Host
from nfproxy.tools.lab.attempts import socket_family

REFUSED, DROPPED = "refused", "dropped"

TIMES = 24
_TIMES_UNANSWERED = 4
# A rejection may arrive while the client's kernel is still inside connect. It then counts only at
# TCP's next attempt, a second later. So only a longer silence means that the packet was dropped.
_DROPPED_AFTER_S = 1.6
_AT_ONCE = 32  # most of these threads wait for an answer that does not come

_WEB = ("pod-1-1", "pod-2-1")
_SHOP = ("pod-1-1", "pod-1-2", "pod-2-2")
_API = ("pod-1-2", "pod-2-1")
_AUDIT = ("pod-2-1", "pod-2-2")
_CART = ("pod-1-1", "pod-1-2", "pod-2-1", "pod-2-2")


class PodAnswer(NamedTuple):
    """The pod that answered, and the client address that it saw."""

    pod: str
    seen: str


class Case(msgspec.Struct, frozen=True):
    """
    A request that a host makes several times, each over a new connection.

    `result` is REFUSED, DROPPED, or the pods that may answer. `seen` names the hosts that the pods
    may see as their client. With `sticky`, one pod has to answer all of them. With `second`, the
    host sends from its second address.
    """

    service: str
    source: str
    address: str
    port: int
    result: tuple[str, ...] | str
    seen: tuple[str, ...] = ()
    remark: str = ""
    sticky: bool = False
    second: bool = False


CASES = (
    Case("web", "pod-1-3", "10.96.0.10", 80, _WEB, ("pod-1-3",)),
    Case("web", "pod-2-3", "fd00:10:96::10", 80, _WEB, ("pod-2-3",)),
    Case("web", "pod-1-1", "10.96.0.10", 80, _WEB, ("pod-1-1", "node-1"), "hairpin"),
    Case("web", "node-1", "fd00:10:96::10", 80, _WEB, ("node-1",)),
    Case("web", "client", "10.96.0.10", 80, _WEB, ("node-1",), "masqueraded"),
    Case("web", "pod-1-3", "10.96.0.10", 81, REFUSED, remark="web has no port 81"),
    Case("shop", "client", "192.168.77.11", 30080, _SHOP, ("node-1",), "masqueraded"),
    Case("shop", "client", "fd77::12", 30080, _SHOP, ("node-2",), "masqueraded"),
    Case("shop", "node-2", "192.168.77.12", 30080, _SHOP, ("node-2",)),
    Case("shop", "pod-2-3", "fd77::11", 30080, _SHOP, ("node-1",), "masqueraded"),
    Case("api", "client", "203.0.113.30", 80, _API, ("node-1",), "masqueraded"),
    Case("api", "client", "2001:db8::30", 80, _API, ("node-1",), "masqueraded"),
    Case("api", "client", "203.0.113.30", 80, DROPPED, remark="source not allowed", second=True),
    Case("audit", "client", "192.168.77.12", 30090, _AUDIT, ("client",), "address kept"),
    Case("audit", "client", "fd77::12", 30090, _AUDIT, ("client",), "address kept"),
    Case("audit", "client", "192.168.77.11", 30090, DROPPED, remark="no endpoint on node-1"),
    Case("audit", "pod-1-3", "192.168.77.11", 30090, _AUDIT, ("pod-1-3",), "all endpoints"),
    Case("cart", "pod-1-3", "10.96.0.50", 80, _CART, ("pod-1-3",), "sticky", sticky=True),
    Case("cart", "client", "fd00:10:96::50", 80, _CART, ("node-1",), "sticky", sticky=True),
    Case("search", "pod-1-3", "10.96.0.60", 80, REFUSED, remark="no endpoints"),
    Case("search", "client", "fd00:10:96::60", 80, REFUSED, remark="no endpoints"),
    Case("(none)", "pod-1-3", "10.96.0.99", 80, DROPPED, remark="no such Service"),
)  # fmt: skip

ABOUT = {
    "web": "ClusterIP, dual-stack",
    "shop": "NodePort 30080",
    "api": "LoadBalancer, loadBalancerSourceRanges: 192.168.77.100/32, fd77::100/128",
    "audit": "NodePort 30090, externalTrafficPolicy: Local, endpoints on node-2",
    "cart": "ClusterIP, sessionAffinity: ClientIP",
    "search": "ClusterIP, its only pod is not ready",
    "(none)": "an address of the ServiceCIDR without a Service",
}


def ask_all(cluster: Cluster) -> tuple[RequestResult, ...]:
    """Make all requests and return their results, in order. Raises DemoError."""
    names = names_by_address(cluster)
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="requests") as pool:
        pending = [_begin(pool, cluster, case) for case in CASES]
        asked = tuple(
            _row(cluster, case, [outcome for part in parts for outcome in part.result()])
            for case, parts in zip(CASES, pending, strict=True)
        )
    for case, row in zip(CASES, asked, strict=True):
        wrong = _what_is_wrong(case, row, names)
        if wrong:
            raise DemoError(f"{row.source} to {row.target} ({row.service}): {wrong}")
    return asked


def names_by_address(cluster: Cluster) -> dict[str, str]:
    """Return the names of all hosts by each of their addresses."""
    return {text: host.name for host in cluster.hosts for pair in host.addresses for text in pair}


def _begin(pool: Executor, cluster: Cluster, case: Case) -> list[Future[list[PodAnswer | str]]]:
    """Start the attempts of a request: in turn, or at the same time where each waits long."""
    if isinstance(case.result, str):
        return [pool.submit(_ask, cluster, case, 1) for _ in range(_TIMES_UNANSWERED)]
    return [pool.submit(_ask, cluster, case, TIMES)]


def _ask(cluster: Cluster, case: Case, times: int) -> list[PodAnswer | str]:
    host, source = cluster.host(case.source), ""
    if case.second:
        source = _source_address(cluster, case)
    timeout_s = _DROPPED_AFTER_S if case.result == DROPPED else 5.0
    outcomes: list[PodAnswer | str] = []
    for _ in range(times):
        try:
            outcomes.append(_connect(host, case, source, timeout_s))
        except ConnectionRefusedError:
            outcomes.append(REFUSED)
        except TimeoutError:
            outcomes.append(DROPPED)
    return outcomes


def _connect(host: Host, case: Case, source: str, timeout_s: float) -> PodAnswer:
    """Connect once and read the line with which the pod answers. Raises OSError."""
    with host.namespace.socket(socket_family(case.address), socket.SOCK_STREAM) as client:
        client.settimeout(timeout_s)
        if source:
            client.bind((source, 0))
        client.connect((case.address, case.port))
        pod, seen, _ = client.recv(4096).decode().split()
    return PodAnswer(pod, seen)


def _source_address(cluster: Cluster, case: Case) -> str:
    pair = cluster.host(case.source).addresses[1 if case.second else 0]
    return pair.ipv6 if ":" in case.address else pair.ipv4


def _row(cluster: Cluster, case: Case, outcomes: list[PodAnswer | str]) -> RequestResult:
    host = f"[{case.address}]" if ":" in case.address else case.address
    answers = [outcome for outcome in outcomes if isinstance(outcome, PodAnswer)]
    return RequestResult(
        service=case.service,
        source=case.source,
        source_address=_source_address(cluster, case),
        target=f"{host}:{case.port}",
        answers=dict(sorted(Counter(answer.pod for answer in answers).items())),
        seen=dict(sorted(Counter(answer.seen for answer in answers).items())),
        refused=outcomes.count(REFUSED),
        dropped=outcomes.count(DROPPED),
        remark=case.remark,
    )


def _what_is_wrong(case: Case, row: RequestResult, names: dict[str, str]) -> str:
    """Return how a row differs from what is expected, "" where it does not."""
    if isinstance(case.result, str):
        wanted = row.refused if case.result == REFUSED else row.dropped
        total = row.refused + row.dropped + sum(row.answers.values())
        return "" if wanted == total else f"{wanted} of {total} were {case.result}"
    if row.refused or row.dropped:
        return f"{row.refused} were refused, {row.dropped} dropped"
    others = row.answers.keys() - set(case.result)
    if others:
        return f"answered by {', '.join(sorted(others))}"
    if case.sticky and len(row.answers) != 1:
        return f"answered by {', '.join(row.answers)} in spite of session affinity"
    unexpected = [text for text in row.seen if names.get(text) not in case.seen]
    return f"the pod saw {', '.join(unexpected)}" if unexpected else ""
