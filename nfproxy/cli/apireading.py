"""
Objects of an API server, read once for a command: all of them, or what was asked about.

Only commands that ask an API server import this module: the HTTP client takes a moment.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import msgspec

from nfproxy.apiserver.access import ClientSettings, client_settings
from nfproxy.apiserver.connection import Connection
from nfproxy.apiserver.snapshot import SnapshotReader
from nfproxy.apiserver.source import ApiServerSource
from nfproxy.cli.inputs import Objects
from nfproxy.cli.output import warn
from nfproxy.cli.sights import ReadObjects
from nfproxy.config.load import LoadedConfig
from nfproxy.errors import InputError
from nfproxy.kube.apistatus import RequestError
from nfproxy.kube.cache import ObjectCache
from nfproxy.kube.details import ObjectDetails
from nfproxy.kube.identity import Kind
from nfproxy.model.changes import Problem
from nfproxy.model.service import ObjectName

#: How long an API server may take to send all objects, and how long after the first failure.
_ALL_S, _TROUBLE_S = 60.0, 3.0

#: How long it may take to answer a question about one Service.
_ONE_S = 20.0

#: Set in every pod.
_IN_POD = "KUBERNETES_SERVICE_HOST"


def read_all(loaded: LoadedConfig, node_name: str) -> Objects:
    """
    Return all objects.

    Raises InputError if no API server is named or none answers; ConfigError if its address or
    credentials cannot be used.
    """
    return asyncio.run(_read_all(loaded, node_name))


def read_asked(
    loaded: LoadedConfig, service: ObjectName | None, node: str, name: str, pod: ObjectName | None
) -> ReadObjects:
    """
    Return a Service and its EndpointSlices, or all where `service` is None.

    With them come the Node `node`, every Node where it is "", and the pod `pod`. `name` is the
    node's own name. Raises as :func:`read_all` does.
    """
    return asyncio.run(_read_asked(loaded, service, node, name, pod))


def _settings(loaded: LoadedConfig, node_name: str) -> ClientSettings:
    settings = client_settings(loaded, node_name, kubeconfig_of_user())
    if not (settings.kubeconfig or settings.master or os.environ.get(_IN_POD)):
        raise InputError(
            "there is no nfproxy here, and no objects are named",
            "name manifests with -f, or an API server with --kubeconfig or --master",
        )
    return settings


async def _read_all(loaded: LoadedConfig, node_name: str) -> Objects:
    settings = _settings(loaded, node_name)
    found: dict[Problem, None] = {}
    trouble = asyncio.Event()

    def report(problem: Problem) -> None:
        found[problem] = None
        if problem.kind == "API":
            trouble.set()

    async with (
        Connection(settings, report) as connection,
        ApiServerSource(connection, node_name, report) as source,
    ):
        loading = asyncio.ensure_future(source.load())
        # A trouble may pass: the source tries again, and other API servers.
        troubled = asyncio.ensure_future(_after(trouble, _TROUBLE_S))
        await asyncio.wait((loading, troubled), timeout=_ALL_S, return_when=asyncio.FIRST_COMPLETED)
        troubled.cancel()
        if loading.done():
            return Objects(
                loading.result(),
                tuple(sorted(found)),
                source.source_file,
                f"the API server {connection.host}",
                connection.addresses,
            )
        loading.cancel()
        await asyncio.gather(loading, troubled, return_exceptions=True)
        if not found:
            raise InputError(f"the API server did not send all objects within {_ALL_S:g} s")
        what = "; ".join(
            ": ".join(filter(None, (problem.subject, problem.what))) for problem in found
        )
        remedies = dict.fromkeys(problem.remedy for problem in found if problem.remedy)
        raise InputError(what, "; ".join(remedies))


async def _after(event: asyncio.Event, seconds: float) -> None:
    await event.wait()
    await asyncio.sleep(seconds)


async def _read_asked(
    loaded: LoadedConfig, service: ObjectName | None, node: str, name: str, pod: ObjectName | None
) -> ReadObjects:
    settings = _settings(loaded, name)
    cache, details = ObjectCache(name), ObjectDetails()

    def take(kind: Kind, data: msgspec.Raw) -> None:
        cache.put(kind, data)
        details.add(kind, data)

    limit_s = _ONE_S if service else _ALL_S
    near: tuple[ObjectName, ...] = ()
    try:
        async with asyncio.timeout(limit_s), Connection(settings, _warn_of) as connection:
            reader = SnapshotReader(connection, take)
            objects = reader.service(service) if service else reader.everything()
            await asyncio.gather(objects, reader.surroundings(node), connection.locate())
            if pod is not None and (read := await reader.pod(pod)) is not None:
                details.add_pod(pod, read)
            if service is not None and service not in details.services:
                near = await reader.near_services(service)
            host, addresses = connection.host, connection.addresses
    except RequestError as error:
        raise InputError(error.what, error.remedy) from None
    except TimeoutError:
        raise InputError(f"the API server did not send the objects within {limit_s:g} s") from None
    return ReadObjects(
        cache.take(),
        details,
        cache.problems,
        f"API server {host}",
        reader.version,
        tuple(reader.missing),
        service is None,
        near,
        addresses,
    )


def _warn_of(problem: Problem) -> None:
    warn(str(problem))


def kubeconfig_of_user() -> str:
    """Return the kubeconfig that kubectl would use here, "" inside a pod or where there is none."""
    if os.environ.get(_IN_POD):
        return ""
    named = os.environ.get("KUBECONFIG", "")
    usual = Path.home() / ".kube" / "config"
    return named or (str(usual) if usual.exists() else "")
