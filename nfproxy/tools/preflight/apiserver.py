"""The API servers: does each answer, at an address that is not a Service's?"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import chain
from typing import NamedTuple, TypeVar
from urllib.parse import urlsplit

import msgspec

from nfproxy.apiserver.access import ClientSettings
from nfproxy.apiserver.connection import Connection
from nfproxy.apiserver.transport import ApiRequest
from nfproxy.errors import ConfigError, InputError, NfproxyError
from nfproxy.kube.apistatus import RequestError
from nfproxy.kube.decode import decode
from nfproxy.kube.identity import Kind
from nfproxy.kube.watch import Page, read_page
from nfproxy.model.addresses import Prefix, parse_address
from nfproxy.model.node import ServiceCIDR
from nfproxy.model.service import Service
from nfproxy.tools.preflight.examine import SUBJECT, Check, FactSource, Subject
from nfproxy.tools.preflight.findings import Finding, fail, ok, skip, warn

T = TypeVar("T")

ANSWER_S = 3.0  # an API server that takes longer counts as one that does not answer
_LIMIT_S = 12.0
_SERVICE_CIDRS = "/apis/networking.k8s.io/v1/servicecidrs"
# By namespace and name: an API server need not search all Services for it.
_DEFAULT_SERVICES = "/api/v1/namespaces/default/services"
_KUBERNETES = "metadata.name=kubernetes"

_DIRECT = (
    "name an address that needs no proxy, such as that of a control plane node or of its load "
    "balancer: --master (apiServers in the chart), or `server` in the kubeconfig"
)
_ADDRESS = "check the address, routes and firewalls"
_LOG = "look at the API server's log"


class ApiServer(NamedTuple):
    """
    One API server and its answer.

    `host` is its name or address, and port; `addresses` are those of that name. `code` is the HTTP
    status of its answer, 0 for no answer. `trouble` is None after a success.
    """

    host: str
    addresses: tuple[str, ...] = ()
    code: int = 0
    trouble: NfproxyError | None = None


class ApiServers(NamedTuple):
    """
    All API servers, and which addresses are those of Services.

    `trouble` says why none could be asked. `answering` are the client settings of the first server
    that answers, None without one. `borrowed` is kubectl's kubeconfig where its credentials are
    used, "" where they are the daemon's. `kubernetes` are the cluster IPs of Service
    default/kubernetes; `env_host` is KUBERNETES_SERVICE_HOST.
    """

    trouble: NfproxyError | None = None
    servers: tuple[ApiServer, ...] = ()
    answering: ClientSettings | None = None
    borrowed: str = ""
    kubernetes: tuple[bytes, ...] = ()
    service_cidrs: tuple[Prefix, ...] = ()
    env_host: str = ""


def read_api_servers(subject: Subject) -> ApiServers:
    """
    Ask every API server for its version, and one for the addresses of Services.

    None is asked where the nfproxy that runs here takes its objects from files.
    """
    if subject.files:
        return ApiServers()
    return asyncio.run(_read(subject))


async def _read(subject: Subject) -> ApiServers:
    settings = subject.settings
    urls = [part.strip() for part in settings.master.split(",") if part.strip()] or [""]
    each = [msgspec.structs.replace(settings, master=url, qps=-1.0) for url in urls]
    found = ApiServers(
        borrowed=settings.kubeconfig if subject.borrowed_credentials else "",
        env_host=subject.env_host,
    )
    try:
        servers = await asyncio.gather(*(_server(one) for one in each))
    except ConfigError as error:
        return found._replace(trouble=error)
    found = found._replace(servers=tuple(servers))
    answering = next((s for s, server in zip(each, servers, strict=True) if server.code), None)
    return found if answering is None else await _with_services(found, answering)


async def _server(settings: ClientSettings) -> ApiServer:
    """Ask one server for its version, which every client may read. Raises ConfigError."""
    async with connected(settings) as connection:
        host = connection.host
        found = ApiServer(host, await _addresses(host))
        try:
            await within(connection.read(ApiRequest("/version")))
        except NoAnswerError:
            trouble = NfproxyError(f"{host} does not answer within {ANSWER_S:g} s", _ADDRESS)
            return found._replace(trouble=trouble)
        except RequestError as error:
            return found._replace(code=error.status.code, trouble=error)
        return found._replace(code=200)


async def _addresses(host: str) -> tuple[str, ...]:
    """Return the addresses behind ``name:port``, none where the name is not resolved in time."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        loop = asyncio.get_running_loop()
        found = await within(loop.getaddrinfo(name, None, type=socket.SOCK_STREAM))
    except (OSError, ValueError, NoAnswerError):
        return ()
    return tuple(sorted({str(address[0]) for *_, address in found}))


async def _with_services(found: ApiServers, settings: ClientSettings) -> ApiServers:
    async with connected(settings) as connection:
        services, cidrs = await asyncio.gather(
            read_items(connection, _DEFAULT_SERVICES, {"fieldSelector": _KUBERNETES}),
            read_items(connection, _SERVICE_CIDRS, {}),
        )
    decoded = (decode(Kind.SERVICE, item).value for item in services or ())
    ranges = (decode(Kind.SERVICE_CIDR, item).value for item in cidrs or ())
    addresses = [one.cluster_ips for one in decoded if isinstance(one, Service)]
    allocated = [one.cidrs for one in ranges if isinstance(one, ServiceCIDR)]
    return found._replace(
        answering=settings,
        kubernetes=tuple(chain.from_iterable(addresses)),
        service_cidrs=tuple(chain.from_iterable(allocated)),
    )


@asynccontextmanager
async def connected(settings: ClientSettings) -> AsyncIterator[Connection]:
    """Give a connection that reports nothing. Raises ConfigError."""
    async with Connection(settings, lambda _: None) as connection:
        yield connection


class NoAnswerError(NfproxyError):
    """An API server does not answer in time."""


async def within(work: Awaitable[T]) -> T:
    """Return a result. Raises NoAnswerError after `ANSWER_S`."""
    try:
        async with asyncio.timeout(ANSWER_S):
            return await work
    except TimeoutError:
        raise NoAnswerError(f"no answer within {ANSWER_S:g} s") from None


async def read_one_page(connection: Connection, path: str, query: dict[str, str]) -> Page:
    """Return the first page of a list. Raises NfproxyError."""
    return read_page(await within(connection.read(ApiRequest(path, query))))


async def read_items(
    connection: Connection, path: str, query: dict[str, str]
) -> Sequence[msgspec.Raw] | None:
    """Return the objects of the first page of a list, None where they cannot be read."""
    try:
        return (await read_one_page(connection, path, query)).items
    except NfproxyError:
        return None


API_SERVERS = FactSource("the API server", read_api_servers, limit_s=_LIMIT_S)


def judge_servers(subject: Subject, found: ApiServers) -> Iterator[Finding]:
    """Each server answers, and at an address that is not a Service's."""
    if subject.files:
        yield skip(
            f"the nfproxy that runs here takes its objects from files ({subject.files})",
            "to ask an API server, give --kubeconfig or --master",
        )
    if found.trouble:
        remedy = found.trouble.remedy or "give --kubeconfig, or --master with addresses"
        yield fail(found.trouble.what, remedy)
    for server in found.servers:
        yield _judge_server(found, server)
    if found.borrowed:
        yield warn(
            f"asked with the credentials of kubectl ({found.borrowed}), which are not the daemon's",
            "give --kubeconfig; with `as: system:serviceaccount:kube-system:nfproxy` under `user`, "
            "an administrator's kubeconfig shows what the daemon may do",
        )


def _judge_server(found: ApiServers, server: ApiServer) -> Finding:
    name = server.host
    inside = sorted(filter(None, (_service(found, address) for address in server.addresses)))
    if inside:
        works = (
            "which no proxy serves here"
            if server.trouble
            else "which answers only as long as another proxy serves it"
        )
        return fail(f"{name} is {inside[0]}, {works}", _DIRECT)
    what, remedy = (server.trouble.what, server.trouble.remedy) if server.trouble else ("", "")
    if what and not server.code:
        judge = warn if any(other.code == 200 for other in found.servers) else fail
        return judge(what, remedy or _ADDRESS)
    if server.code == 401:
        return fail(what, remedy or "check the credentials")
    if server.code >= 500 or server.code == 404:
        return fail(f"{name}: {what}", remedy or _LOG)
    # Any other code, 403 among them, shows that the server is there.
    return ok(f"{name} answers, without a Service in between")


def _service(found: ApiServers, text: str) -> str:
    """Return of which Service an address is, in words, "" if it is none."""
    try:
        address = parse_address(text)
    except InputError:
        return ""
    if address in found.kubernetes:
        return f"the cluster IP {text} of Service default/kubernetes"
    cidr = next((cidr for cidr in found.service_cidrs if address in cidr), None)
    if cidr is not None:
        return f"an address of the Service range {cidr}"
    # The environment counts only where the API does not say which addresses are Services'.
    if text == found.env_host and not (found.kubernetes or found.service_cidrs):
        return f"KUBERNETES_SERVICE_HOST {text}, a cluster IP"
    return ""


CHECKS = (Check("api-server", judge_servers, (SUBJECT, API_SERVERS)),)
