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
from nfproxy.model.changes import Changes, Problem
from nfproxy.model.service import ObjectName
from nfproxy.sources.once import read_with_origins

#: How long an API server may take to tell everything.
PATIENCE_S = 60.0


class Objects(NamedTuple):
    """Everything a source told, what was wrong with it, and where each Service comes from."""

    changes: Changes
    problems: tuple[Problem, ...]
    origin: Callable[[ObjectName], str]


def read_objects(files: Iterable[str], loaded: LoadedConfig, node_name: str) -> Objects:
    """
    Return all objects of some files, or those of the API server where no file is named.

    Raises InputError where the files cannot be found or the API server does not answer,
    ConfigError where it is not known which API server is meant.
    """
    if files:
        return Objects(*read_with_origins(files, node_name))
    return asyncio.run(_read_api_server(loaded, node_name))


async def _read_api_server(loaded: LoadedConfig, node_name: str) -> Objects:
    # Imported here: with files, nobody needs an HTTP client.
    from nfproxy.sources.apiserver.connection import ClientSettings, Connection
    from nfproxy.sources.apiserver.source import ApiServerSource

    client = loaded.config.client_connection
    kubeconfig = client.kubeconfig or ("" if loaded.master else kubeconfig_of_user())
    settings = ClientSettings(
        kubeconfig=kubeconfig, master=loaded.master, qps=client.qps, burst=client.burst
    )
    found: dict[Problem, None] = {}

    def report(problem: Problem) -> None:
        found[problem] = None

    async with (
        Connection(settings, report) as connection,
        ApiServerSource(connection, node_name, report) as source,
    ):
        try:
            changes = await asyncio.wait_for(source.load(), PATIENCE_S)
        except TimeoutError:
            said = "; ".join(map(str, found)) or "it does not answer"
            raise InputError(f"not everything was told within {PATIENCE_S:g} s: {said}") from None
        return Objects(changes, tuple(sorted(found)), source.origin)


def kubeconfig_of_user() -> str:
    """
    Return the kubeconfig that kubectl would use here, "" inside a pod or where there is none.
    """
    if os.environ.get("KUBERNETES_SERVICE_HOST"):
        return ""
    named = os.environ.get("KUBECONFIG", "")
    usual = Path.home() / ".kube" / "config"
    return named or (str(usual) if usual.exists() else "")
