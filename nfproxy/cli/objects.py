"""
Objects read once, for the commands that do not follow them: from files or an API server.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from nfproxy.config.load import LoadedConfig
from nfproxy.errors import InputError
from nfproxy.manifests.once import read_with_sources
from nfproxy.model.changes import Changes, Problem
from nfproxy.model.service import ObjectName

#: How long an API server may take to tell everything, and how long after the first trouble.
PATIENCE_S, TROUBLE_S = 60.0, 3.0

_IN_POD = "KUBERNETES_SERVICE_HOST"  # set in every pod


class Objects(NamedTuple):
    """Everything a source told, what was wrong with it, and where each Service comes from."""

    changes: Changes
    problems: tuple[Problem, ...]
    source_file: Callable[[ObjectName], str]


def read_objects(files: Iterable[str], loaded: LoadedConfig, node_name: str) -> Objects:
    """
    Return all objects of some files, or those of the API server where no file is named.

    Raises InputError where the files cannot be found or the API server does not answer,
    ConfigError where it is not known which API server is meant.
    """
    if files:
        return Objects(*read_with_sources(files, node_name))
    return asyncio.run(_read_api_server(loaded, node_name))


async def _read_api_server(loaded: LoadedConfig, node_name: str) -> Objects:
    # Imported here: with files, nobody needs an HTTP client.
    from nfproxy.apiserver.connection import ClientSettings, Connection
    from nfproxy.apiserver.source import ApiServerSource

    client = loaded.config.client_connection
    kubeconfig = client.kubeconfig or ("" if loaded.command_line.master else kubeconfig_of_user())
    if not (kubeconfig or loaded.command_line.master or os.environ.get(_IN_POD)):
        raise InputError("name manifests with -f, or an API server with --kubeconfig or --master")
    settings = ClientSettings(
        kubeconfig=kubeconfig,
        master=loaded.command_line.master,
        spread=node_name,
        qps=client.qps,
        burst=client.burst,
    )
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
        troubled = asyncio.ensure_future(_after(trouble, TROUBLE_S))
        await asyncio.wait(
            (loading, troubled), timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED
        )
        troubled.cancel()
        if loading.done():
            return Objects(loading.result(), tuple(sorted(found)), source.source_file)
        loading.cancel()
        await asyncio.gather(loading, troubled, return_exceptions=True)
        if not found:
            raise InputError(f"the API server did not send all objects within {PATIENCE_S:g} s")
        what = "; ".join(f"{problem.subject}: {problem.what}" for problem in found)
        remedies = dict.fromkeys(problem.remedy for problem in found if problem.remedy)
        raise InputError(what, "; ".join(remedies))


async def _after(event: asyncio.Event, seconds: float) -> None:
    await event.wait()
    await asyncio.sleep(seconds)


def kubeconfig_of_user() -> str:
    """
    Return the kubeconfig that kubectl would use here, "" inside a pod or where there is none.
    """
    if os.environ.get(_IN_POD):
        return ""
    named = os.environ.get("KUBECONFIG", "")
    usual = Path.home() / ".kube" / "config"
    return named or (str(usual) if usual.exists() else "")
