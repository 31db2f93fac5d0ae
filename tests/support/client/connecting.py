"""A connection to a scripted API server, with a kubeconfig."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import yaml
from support.client.scriptedserver import ScriptedServer

from nfproxy.apiserver.access import ClientSettings
from nfproxy.apiserver.connection import Connection
from nfproxy.apiserver.transport import ApiRequest
from nfproxy.model.changes import Problem

PAGE = ApiRequest("/api/v1/services", {"labelSelector": "!a/b", "x": "ä&="})


def kubeconfig(path: Path, server: str, user: Any = None, **cluster: Any) -> str:
    """Write a kubeconfig; return its path."""
    fields = {key.replace("_", "-"): value for key, value in cluster.items()}
    path.write_text(
        yaml.safe_dump(
            {
                "current-context": "here",
                "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
                "clusters": [{"name": "c", "cluster": {"server": server} | fields}],
                "users": [{"name": "u", "user": user or {}}],
            }
        )
    )
    return str(path)


@contextlib.asynccontextmanager
async def connected(
    settings: ClientSettings, problems: list[Problem] | None = None, observer: Any = None
) -> AsyncIterator[Connection]:
    report = (problems if problems is not None else []).append
    async with Connection(settings, report, observer) as connection:
        yield connection


async def answered(server: ScriptedServer, connection: Connection, body: Any = None) -> Any:
    """Make a request and answer it; return what the server received."""
    reading = asyncio.ensure_future(connection.read(PAGE))
    exchange = await server.asked()
    exchange.reply(body or {"ok": 1})
    await reading
    return exchange
