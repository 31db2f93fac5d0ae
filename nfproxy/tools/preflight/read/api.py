"""
The API servers, asked for what the daemon is going to ask them.

Nothing is changed there: an Event is posted and patched with ``dryRun``.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from itertools import chain
from typing import NamedTuple, TypeVar
from urllib.parse import urlsplit

import msgspec

from nfproxy.apiserver.access import ClientSettings
from nfproxy.apiserver.connection import Connection, Request
from nfproxy.apiserver.eventseries import Event, EventSeries, Regarding, event_object, series_patch
from nfproxy.errors import ConfigError, NfproxyError
from nfproxy.kube.decode import decode
from nfproxy.kube.decoded import Kind
from nfproxy.kube.resources import Resource, resources
from nfproxy.kube.status import RequestError
from nfproxy.kube.watch import Page, read_page
from nfproxy.model.node import Node, ServiceCIDR
from nfproxy.model.service import Service
from nfproxy.tools.preflight.facts import Api, Attempt, Server

T = TypeVar("T")

LIMIT_S = 6.0
_ANSWER_S = 3.0  # an API server that takes longer than this is as good as none
_SERVICES = "/api/v1/services"
_SLICES = "/apis/discovery.k8s.io/v1/endpointslices"
_SERVICE_CIDRS = "/apis/networking.k8s.io/v1/servicecidrs"
# by namespace and name, which no API server has to look for among all Services
_DEFAULT_SERVICES = "/api/v1/namespaces/default/services"
_KUBERNETES = "metadata.name=kubernetes"
_EVENTS = "/apis/events.k8s.io/v1/namespaces/default/events"
_MERGE = "application/merge-patch+json"


class Question(NamedTuple):
    """
    Whom to ask, about which node.

    `settings` name one API server or, by ``--master``, several; `borrowed` tells that their
    credentials are kubectl's. `env_host` is KUBERNETES_SERVICE_HOST, "" outside of pods.
    """

    settings: ClientSettings
    node_name: str
    borrowed: bool = False
    env_host: str = ""


def read_api(question: Question) -> Api:
    """Return everything that the API servers tell, within a few seconds; never raises."""
    return asyncio.run(_read(question))


async def _read(question: Question) -> Api:
    settings = question.settings
    urls = [part.strip() for part in settings.master.split(",") if part.strip()] or [""]
    each = [msgspec.structs.replace(settings, master=url, qps=-1.0) for url in urls]
    credentials = settings.kubeconfig or ("" if settings.master else "a service account")
    api = Api(credentials=credentials, borrowed=question.borrowed, env_host=question.env_host)
    try:
        servers = await asyncio.gather(*(_server(one) for one in each))
    except ConfigError as error:
        return api._replace(trouble=str(error))
    api = api._replace(servers=tuple(servers))
    usable = next((s for s, server in zip(each, servers, strict=True) if server.code), None)
    return api if usable is None else await _ask_all(api, usable, question.node_name)


@asynccontextmanager
async def _connected(settings: ClientSettings) -> AsyncIterator[Connection]:
    async with Connection(settings, lambda _: None) as connection:
        yield connection


async def _server(settings: ClientSettings) -> Server:
    """Ask one server for its version, which anybody may know. Raises ConfigError."""
    async with _connected(settings) as connection:
        host = connection.host
        found = Server(settings.master or host, host, await _addresses(host))
        try:
            await _within(connection.read(Request("/version")))
        except RequestError as error:
            return found._replace(code=error.status.code, trouble=str(error))
        except TimeoutError:
            text = f"{host} does not answer within {_ANSWER_S:g} s; check the address, routes and "
            return found._replace(trouble=f"{text}firewalls")
        return found._replace(code=200)


async def _within(work: Awaitable[T]) -> T:
    async with asyncio.timeout(_ANSWER_S):
        return await work


async def _addresses(host: str) -> tuple[str, ...]:
    """Return the addresses behind ``name:port``, none where the name is not known in time."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(_ANSWER_S):
            found = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, ValueError, TimeoutError):
        return ()
    return tuple(sorted({str(address[0]) for *_, address in found}))


async def _ask_all(api: Api, settings: ClientSettings, node_name: str) -> Api:
    """Make every sort of request once, to one server."""
    async with _connected(settings) as connection:
        asked = [_follow(connection, resource) for resource in resources(node_name)]
        results = await asyncio.gather(*asked, _events(connection, node_name))
        (node, node_asked), kubernetes, cidrs, services, slices = await asyncio.gather(
            _node(connection, node_name),
            _items(connection, _DEFAULT_SERVICES, {"fieldSelector": _KUBERNETES}),
            _items(connection, _SERVICE_CIDRS, {}),
            _count(connection, _SERVICES),
            _count(connection, _SLICES),
        )
    decoded = (decode(Kind.SERVICE, item).value for item in kubernetes)
    ranges = (decode(Kind.SERVICE_CIDR, item).value for item in cidrs)
    found = [one.cluster_ips.values() for one in decoded if isinstance(one, Service)]
    allocated = [one.cidrs for one in ranges if isinstance(one, ServiceCIDR)]
    return api._replace(
        attempts=tuple(attempt for found in results for attempt in found),
        node=node,
        node_asked=node_asked,
        kubernetes=tuple(chain.from_iterable(found)),
        service_cidrs=tuple(chain.from_iterable(allocated)),
        services=services,
        slices=slices,
    )


async def _follow(connection: Connection, resource: Resource) -> list[Attempt]:
    """List one object of a resource, and open a watch from there."""
    listed = Attempt("list", resource.plural, resource.group, optional=resource.is_optional)
    version = ""
    try:
        query = {**resource.selectors, "limit": "1"}
        version = read_page(await _within(connection.read(Request(resource.path, query)))).version
    except (NfproxyError, TimeoutError) as error:
        listed = _failed(listed, error)
    watched = listed._replace(verb="watch", code=0, trouble="")
    query = {**resource.selectors, "watch": "true", "timeoutSeconds": "1"}
    if version:
        query["resourceVersion"] = version
    try:
        async with asyncio.timeout(_ANSWER_S), connection.ask(Request(resource.path, query)):
            pass  # it has been opened
    except (NfproxyError, TimeoutError) as error:
        watched = _failed(watched, error)
    return [listed, watched]


async def _events(connection: Connection, node_name: str) -> list[Attempt]:
    """Post an Event, and patch one that does not exist; neither is carried out."""
    event = Event(Regarding.node(node_name), "Normal", "Preflight", "Preflight")
    now = time.time()
    series = EventSeries(event, f"nfproxy-preflight.{int(now * 1e9):x}", now, now, count=2)
    body = event_object(series, "nfproxy-preflight")
    dry = {"dryRun": "All"}
    create = Request(_EVENTS, dry, method="POST", body=body)
    patch = Request(
        f"{_EVENTS}/{series.name}",
        dry,
        method="PATCH",
        body=series_patch(series),
        content_type=_MERGE,
    )
    attempts = []
    for verb, request in (("create", create), ("patch", patch)):
        attempt = Attempt(verb, "events", "events.k8s.io", optional=True)
        try:
            await _within(connection.read(request))
        except (NfproxyError, TimeoutError) as error:
            failed = _failed(attempt, error)
            absent = verb == "patch" and failed.code == 404  # whom we may patch, were it there
            attempts.append(attempt if absent else failed)
        else:
            attempts.append(attempt)
    return attempts


def _failed(attempt: Attempt, error: Exception) -> Attempt:
    if isinstance(error, TimeoutError):
        return attempt._replace(trouble=f"no answer within {_ANSWER_S:g} s")
    code = error.status.code if isinstance(error, RequestError) else 0
    return attempt._replace(code=code, trouble=str(error))


async def _node(connection: Connection, name: str) -> tuple[Node | None, bool]:
    """Return this node's Node, and whether it could be asked for."""
    try:
        query = {"fieldSelector": f"metadata.name={name}"}
        page = await _page(connection, "/api/v1/nodes", query)
    except (NfproxyError, TimeoutError):
        return None, False
    nodes = [decode(Kind.NODE, item).value for item in page.items]
    ours = (node for node in nodes if isinstance(node, Node) and node.name == name)
    return next(ours, None), True


async def _items(connection: Connection, path: str, query: dict[str, str]) -> Sequence[msgspec.Raw]:
    """Return some objects, none where they may not be read."""
    try:
        return (await _page(connection, path, query)).items
    except (NfproxyError, TimeoutError):
        return ()


async def _page(connection: Connection, path: str, query: dict[str, str]) -> Page:
    return read_page(await _within(connection.read(Request(path, query))))


class _Counted(msgspec.Struct, rename="camel"):
    remaining_item_count: int | None = None


class _List(msgspec.Struct):
    metadata: _Counted
    items: list[msgspec.Raw] | None = None


async def _count(connection: Connection, path: str) -> int | None:
    """Return how many objects there are, None where the API server does not tell."""
    try:
        body = await _within(connection.read(Request(path, {"limit": "1"})))
        found = msgspec.json.decode(body, type=_List)
    except (NfproxyError, TimeoutError, msgspec.MsgspecError):
        return None
    return len(found.items or ()) + (found.metadata.remaining_item_count or 0)
