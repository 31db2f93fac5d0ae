"""
Access to the API: may nfproxy make its requests, is there a Node of this name?

Preflight makes every sort of request that the daemon makes. It changes nothing: an Event is created
and patched with ``dryRun``.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Iterable, Sequence
from typing import NamedTuple, TypeVar

import msgspec

from nfproxy.apiserver.access import ClientSettings
from nfproxy.apiserver.connection import Connection
from nfproxy.apiserver.eventseries import Event, EventSeries, Regarding, event_object, series_patch
from nfproxy.apiserver.source import list_node_names
from nfproxy.apiserver.transport import ApiRequest
from nfproxy.config.nodeconfig import node_config
from nfproxy.errors import ConfigError, NfproxyError
from nfproxy.kube.apistatus import RequestError
from nfproxy.kube.decode import decode
from nfproxy.kube.identity import Kind
from nfproxy.kube.nodenames import missing_node, near_names
from nfproxy.kube.resources import Resource, name_selector, resources
from nfproxy.model.addresses import FAMILIES, Family, family_of, format_address
from nfproxy.model.node import Node
from nfproxy.tools.preflight.apiserver import (
    API_SERVERS,
    ApiServers,
    connected,
    read_items,
    read_one_page,
    within,
)
from nfproxy.tools.preflight.examine import SUBJECT, Check, FactSource, Subject
from nfproxy.tools.preflight.findings import Finding, fail, ok, skip, warn

T = TypeVar("T")

_LIMIT_S = 20.0  # that of the API servers, which is waited for, and three answers
_NODES = "/api/v1/nodes"
_SERVICES = "/api/v1/services"
_SLICES = "/apis/discovery.k8s.io/v1/endpointslices"
_EVENTS = "/apis/events.k8s.io/v1/namespaces/default/events"
_MERGE = "application/merge-patch+json"
_ROLE = (
    "kubectl apply the ClusterRole nfproxy and its binding (deploy/kustomize/base), or bind "
    "system:node-proxier"
)


class Attempt(NamedTuple):
    """
    A request that nfproxy will make, tried.

    `code` is the HTTP status of a refusal, 0 for a success or no answer. `optional` says that
    nfproxy works without it.
    """

    verb: str
    resource: str
    group: str
    code: int = 0
    trouble: NfproxyError | None = None
    optional: bool = False


class ApiAccess(NamedTuple):
    """
    What came of all requests, and what the API server said about this node.

    `node` is None where there is no such Node, or where `node_asked` is False; `near` names those
    that it may be then. The numbers of objects are None where they are unknown.
    """

    attempts: tuple[Attempt, ...] = ()
    node: Node | None = None
    node_asked: bool = False
    services: int | None = None
    slices: int | None = None
    near: tuple[str, ...] = ()


def read_access(subject: Subject, found: ApiServers) -> ApiAccess:
    """Make every sort of request once, to one API server; none where no server answers."""
    if found.answering is None:
        return ApiAccess()
    return asyncio.run(_read(found.answering, subject.node_name))


async def _read(settings: ClientSettings, node_name: str) -> ApiAccess:
    async with connected(settings) as connection:
        asked = [_follow(connection, resource) for resource in resources(node_name)]
        results, (node, node_asked), services, slices = await asyncio.gather(
            asyncio.gather(*asked, _events(connection, node_name)),
            _node(connection, node_name),
            _count(connection, _SERVICES),
            _count(connection, _SLICES),
        )
        near = await _near(connection, node_name) if node_asked and node is None else ()
    attempts = tuple(attempt for found in results for attempt in found)
    return ApiAccess(attempts, node, node_asked, services, slices, near)


async def _try(attempt: Attempt, work: Awaitable[T]) -> tuple[Attempt, T | None]:
    """Return an attempt with what came of it, and the answer, None without one."""
    try:
        return attempt, await within(work)
    except NfproxyError as error:
        code = error.status.code if isinstance(error, RequestError) else 0
        return attempt._replace(code=code, trouble=error), None


async def _follow(connection: Connection, resource: Resource) -> list[Attempt]:
    """List one object of a resource, and open a watch from there."""
    path, group = resource.path, resource.group
    wanted = Attempt("list", resource.plural, group, optional=resource.is_optional)
    query = {**resource.selectors, "limit": "1"}
    listed, page = await _try(wanted, read_one_page(connection, path, query))
    query = {**resource.selectors, "watch": "true", "timeoutSeconds": "1"}
    if page and page.version:
        query["resourceVersion"] = page.version
    watched, _ = await _try(wanted._replace(verb="watch"), _open(connection, path, query))
    return [listed, watched]


async def _open(connection: Connection, path: str, query: dict[str, str]) -> None:
    async with connection.ask(ApiRequest(path, query)):
        pass  # an open watch is enough


async def _events(connection: Connection, node_name: str) -> list[Attempt]:
    """Create an Event, and patch one that does not exist, both with ``dryRun``."""
    event = Event(Regarding.node(node_name), "Normal", "Preflight", "Preflight")
    now = time.time()
    series = EventSeries(event, f"nfproxy-preflight.{int(now * 1e9):x}", now, now, count=2)
    dry = {"dryRun": "All"}
    body = event_object(series, "nfproxy-preflight")
    create = ApiRequest(_EVENTS, dry, method="POST", body=body)
    path, body = f"{_EVENTS}/{series.name}", series_patch(series)
    patch = ApiRequest(path, dry, method="PATCH", body=body, content_type=_MERGE)
    wanted = Attempt("create", "events", "events.k8s.io", optional=True)
    created, _ = await _try(wanted, connection.read(create))
    patched, _ = await _try(wanted._replace(verb="patch"), connection.read(patch))
    # The API server checks the right to patch before it looks for the object.
    return [created, wanted._replace(verb="patch") if patched.code == 404 else patched]


async def _node(connection: Connection, name: str) -> tuple[Node | None, bool]:
    """Return this node's Node, and whether the API server let us ask."""
    items = await read_items(connection, _NODES, {"fieldSelector": name_selector(name)})
    nodes = [decode(Kind.NODE, item).value for item in items or ()]
    ours = (node for node in nodes if isinstance(node, Node) and node.name == name)
    return next(ours, None), items is not None


async def _near(connection: Connection, name: str) -> tuple[str, ...]:
    """Return the names of Nodes that this one may be, none if they cannot be listed."""
    try:
        return near_names(name, socket.gethostname(), await within(list_node_names(connection)))
    except NfproxyError:
        return ()


class _Counted(msgspec.Struct, rename="camel"):
    remaining_item_count: int | None = None


class _List(msgspec.Struct):
    metadata: _Counted
    items: list[msgspec.Raw] | None = None


async def _count(connection: Connection, path: str) -> int | None:
    """Return how many objects there are, None where the API server does not say."""
    try:
        body = await within(connection.read(ApiRequest(path, {"limit": "1"})))
        found = msgspec.json.decode(body, type=_List)
    except (NfproxyError, msgspec.MsgspecError):
        return None
    return len(found.items or ()) + (found.metadata.remaining_item_count or 0)


ACCESS = FactSource("access to the API", read_access, (API_SERVERS,), _LIMIT_S)


def judge_access(subject: Subject, access: ApiAccess) -> list[Finding]:
    """
    nfproxy may make each of its requests; a refused one is named, with the rule to add.

    No finding where it takes its objects from files: `api-server` says so.
    """
    if not access.attempts:
        return [] if subject.files else [skip("no API server answers", "see `api-server`")]
    refused = _grouped(attempt for attempt in access.attempts if attempt.trouble)
    granted = _grouped(attempt for attempt in access.attempts if not attempt.trouble)
    may = "; ".join(f"{_verbs(group)} {_resource(group[0])}" for group in granted)
    return [*map(_refusal, refused), *([ok(f"may {may}")] if may else [])]


def _grouped(attempts: Iterable[Attempt]) -> Sequence[Sequence[Attempt]]:
    """Return attempts in groups with the same resource and the same answer."""
    found: dict[tuple[str, int], list[Attempt]] = {}
    for attempt in attempts:
        found.setdefault((_resource(attempt), attempt.code), []).append(attempt)
    return list(found.values())


def _refusal(group: Sequence[Attempt]) -> Finding:
    first = group[0]
    name = _resource(first)
    judge = warn if first.optional else fail
    if first.code in (401, 403):
        verbs = ", ".join(f'"{attempt.verb}"' for attempt in group)
        return judge(
            f"may not {_verbs(group)} {name}: {first.trouble}",
            f'needs a rule with apiGroups: ["{first.group}"], resources: ["{first.resource}"], '
            f"verbs: [{verbs}]: {_ROLE}",
        )
    if first.code == 404 and first.optional:
        return ok(f"the API server has no {name}: nfproxy works without")
    return judge(f"cannot {_verbs(group)} {name}: {first.trouble}", "look at the API server's log")


def _verbs(group: Iterable[Attempt]) -> str:
    return " and ".join(attempt.verb for attempt in group)


def _resource(attempt: Attempt) -> str:
    return f"{attempt.resource}.{attempt.group}" if attempt.group else attempt.resource


def judge_node(subject: Subject, access: ApiAccess) -> list[Finding]:
    """There is a Node of this name, with addresses, and the configuration fits it."""
    try:
        _, warnings = node_config(subject.config, subject.node_name, access.node)
    except ConfigError as error:
        return [fail(error.what, error.remedy)]
    if subject.files:
        return []
    return judge_node_object(access, subject.node_name, warnings if access.node else ())


def judge_node_object(access: ApiAccess, name: str, warnings: Iterable[str]) -> list[Finding]:
    """The Node says which pods are local, and where node ports are accepted."""
    if not access.node_asked:
        return [skip(f"whether there is a Node {name!r}", "see `access`")]
    if access.node is None:
        return [fail(*missing_node(name, access.near))]
    findings = [warn(text, "see the Node object and the configuration") for text in warnings]
    addresses = ", ".join(format_address(address) for address in access.node.addresses)
    cidrs = ", ".join(map(str, access.node.pod_cidrs))
    if not access.node.addresses:
        return [*findings, warn(f"Node {name!r} has no address", "wait for the kubelet to set it")]
    return [*findings, ok(f"Node {name!r} has {addresses}; podCIDRs {cidrs or 'none'}")]


def node_families(node: Node | None) -> tuple[Family, ...]:
    """Return the families that a Node has addresses or pods of, () where it is unknown."""
    if node is None:
        return ()
    here = {family_of(address) for address in node.addresses}
    here |= {cidr.family for cidr in node.pod_cidrs}
    return tuple(family for family in FAMILIES if family in here)


#: The families of the Node, () where there is none.
NODE_FAMILIES = FactSource(
    "the Node's families", lambda _, access: node_families(access.node), (ACCESS,), _LIMIT_S
)

CHECKS = (
    Check("access", judge_access, (SUBJECT, ACCESS)),
    Check("node", judge_node, (SUBJECT, ACCESS)),
)
