"""
Which requests the demo makes, and what must come of them.

The addresses are those of the example manifests and of :class:`nfproxy.tools.lab.Cluster`.
"""

from __future__ import annotations

from collections import Counter
from concurrent.futures import Executor, Future, ThreadPoolExecutor

import msgspec

from nfproxy.tools.demo.http import Answer, Connection, target
from nfproxy.tools.demo.results import Asked, DemoError
from nfproxy.tools.lab import Cluster

REFUSED, DROPPED = "refused", "dropped"

TIMES = 24
_TIMES_UNANSWERED = 4
# A rejection may reach a client's kernel before it has finished sending, and then counts only
# when TCP tries again, a second later. So only what is silent for longer was dropped.
_DROPPED_AFTER_S = 1.6
_AT_ONCE = 32  # most of them wait for something that does not come

_WEB = ("pod-1-1", "pod-2-1")
_SHOP = ("pod-1-1", "pod-1-2", "pod-2-2")
_API = ("pod-1-2", "pod-2-1")
_AUDIT = ("pod-2-1", "pod-2-2")
_CART = ("pod-1-1", "pod-1-2", "pod-2-1", "pod-2-2")


class Request(msgspec.Struct, frozen=True):
    """
    A request made several times, each over a new connection.

    `result` is REFUSED, DROPPED, or the pods that may answer; `seen` names the hosts the pods may
    see as their client. `sticky`: all from one pod. `second`: sent from the host's second address.
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


REQUESTS = (
    Request("web", "pod-1-3", "10.96.0.10", 80, _WEB, ("pod-1-3",)),
    Request("web", "pod-2-3", "fd00:10:96::10", 80, _WEB, ("pod-2-3",)),
    Request("web", "pod-1-1", "10.96.0.10", 80, _WEB, ("pod-1-1", "node-1"), "hairpin"),
    Request("web", "node-1", "fd00:10:96::10", 80, _WEB, ("node-1",)),
    Request("web", "client", "10.96.0.10", 80, _WEB, ("node-1",), "masqueraded"),
    Request("web", "pod-1-3", "10.96.0.10", 81, REFUSED, remark="web has no port 81"),
    Request("shop", "client", "192.168.77.11", 30080, _SHOP, ("node-1",), "masqueraded"),
    Request("shop", "client", "fd77::12", 30080, _SHOP, ("node-2",), "masqueraded"),
    Request("shop", "node-2", "192.168.77.12", 30080, _SHOP, ("node-2",)),
    Request("shop", "pod-2-3", "fd77::11", 30080, _SHOP, ("node-1",), "masqueraded"),
    Request("api", "client", "203.0.113.30", 80, _API, ("node-1",), "masqueraded"),
    Request("api", "client", "2001:db8::30", 80, _API, ("node-1",), "masqueraded"),
    Request("api", "client", "203.0.113.30", 80, DROPPED, remark="from another IP", second=True),
    Request("audit", "client", "192.168.77.12", 30090, _AUDIT, ("client",), "address kept"),
    Request("audit", "client", "fd77::12", 30090, _AUDIT, ("client",), "address kept"),
    Request("audit", "client", "192.168.77.11", 30090, DROPPED, remark="no endpoint on node-1"),
    Request("audit", "pod-1-3", "192.168.77.11", 30090, _AUDIT, ("pod-1-3",), "short cut"),
    Request("cart", "pod-1-3", "10.96.0.50", 80, _CART, ("pod-1-3",), "sticky", sticky=True),
    Request("cart", "client", "fd00:10:96::50", 80, _CART, ("node-1",), "sticky", sticky=True),
    Request("search", "pod-1-3", "10.96.0.60", 80, REFUSED, remark="no endpoints"),
    Request("search", "client", "fd00:10:96::60", 80, REFUSED, remark="no endpoints"),
    Request("(none)", "pod-1-3", "10.96.0.99", 80, DROPPED, remark="no such Service"),
)  # fmt: skip

ABOUT = {
    "web": "ClusterIP, dual-stack",
    "shop": "NodePort 30080",
    "api": "LoadBalancer, loadBalancerSourceRanges: 192.168.77.100/32, fd77::100/128",
    "audit": "NodePort 30090, externalTrafficPolicy: Local, endpoints on node-2",
    "cart": "ClusterIP, sessionAffinity: ClientIP",
    "search": "ClusterIP, its only pod is not ready",
    "(none)": "an address of the ServiceCIDR that no Service has",
}


def ask_all(cluster: Cluster) -> tuple[Asked, ...]:
    """Make all requests and return what came of them, in order. Raises DemoError."""
    names = names_by_address(cluster)
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="requests") as pool:
        pending = [_begin(pool, cluster, request) for request in REQUESTS]
        asked = tuple(
            _row(cluster, request, [outcome for part in parts for outcome in part.result()])
            for request, parts in zip(REQUESTS, pending, strict=True)
        )
    for request, row in zip(REQUESTS, asked, strict=True):
        wrong = _what_is_wrong(request, row, names)
        if wrong:
            raise DemoError(f"{row.source} asked {row.target} ({row.service}): {wrong}")
    return asked


def names_by_address(cluster: Cluster) -> dict[str, str]:
    """Return the names of all hosts by each of their addresses."""
    return {text: host.name for host in cluster.hosts for pair in host.addresses for text in pair}


def _begin(pool: Executor, cluster: Cluster, request: Request) -> list[Future[list[Answer | str]]]:
    """Begin to make a request several times: one after another, or at once if that takes long."""
    if isinstance(request.result, str):
        return [pool.submit(_ask, cluster, request, 1) for _ in range(_TIMES_UNANSWERED)]
    return [pool.submit(_ask, cluster, request, TIMES)]


def _ask(cluster: Cluster, request: Request, times: int) -> list[Answer | str]:
    host, source = cluster.host(request.source), ""
    if request.second:
        source = _source_address(cluster, request)
    timeout_s = _DROPPED_AFTER_S if request.result == DROPPED else 5.0
    outcomes: list[Answer | str] = []
    for _ in range(times):
        try:
            with Connection(
                host, request.address, request.port, source=source, timeout_s=timeout_s
            ) as connection:
                outcomes.append(connection.ask())
        except ConnectionRefusedError:
            outcomes.append(REFUSED)
        except TimeoutError:
            outcomes.append(DROPPED)
    return outcomes


def _source_address(cluster: Cluster, request: Request) -> str:
    pair = cluster.host(request.source).addresses[1 if request.second else 0]
    return pair.ipv6 if ":" in request.address else pair.ipv4


def _row(cluster: Cluster, request: Request, outcomes: list[Answer | str]) -> Asked:
    where = target(request.address, request.port)
    answers = [outcome for outcome in outcomes if isinstance(outcome, Answer)]
    return Asked(
        service=request.service,
        source=request.source,
        source_address=_source_address(cluster, request),
        second_address=request.second,
        target=where,
        url=f"http://{where}/",
        answers=dict(sorted(Counter(answer.pod for answer in answers).items())),
        seen=dict(sorted(Counter(answer.seen for answer in answers).items())),
        refused=outcomes.count(REFUSED),
        dropped=outcomes.count(DROPPED),
        remark=request.remark,
    )


def _what_is_wrong(request: Request, row: Asked, names: dict[str, str]) -> str:
    """Return in which way a row is not what it must be, "" where it is."""
    if isinstance(request.result, str):
        wanted = row.refused if request.result == REFUSED else row.dropped
        total = row.refused + row.dropped + sum(row.answers.values())
        return "" if wanted == total else f"{wanted} of {total} were {request.result}"
    if row.refused or row.dropped:
        return f"{row.refused} were refused, {row.dropped} dropped"
    others = row.answers.keys() - set(request.result)
    if others:
        return f"answered by {', '.join(sorted(others))}"
    if request.sticky and len(row.answers) != 1:
        return f"answered by {', '.join(row.answers)} in spite of session affinity"
    strangers = [text for text in row.seen if names.get(text) not in request.seen]
    return f"the pod saw {', '.join(strangers)}" if strangers else ""
