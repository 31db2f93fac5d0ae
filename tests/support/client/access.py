"""What the API server's side reads of flags, files and environment, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from nfproxy.apiserver.access import Access, ClientSettings, check_tls, read_access
from nfproxy.apiserver.plugins import PluginRunner
from nfproxy.apiserver.transport import Transport

SERVER = "https://192.0.2.1:6443"
Change = Callable[[dict[str, Any]], None]


def kubeconfig(
    path: Path, cluster: Any = None, user: Any = None, change: Change = lambda config: None
) -> Path:
    """Write a kubeconfig with what is given of cluster and user; return its path."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": SERVER} | (cluster or {})}],
        "users": [{"name": "u", "user": user or {}}],
    }
    change(config)
    path.write_text(yaml.safe_dump(config))
    return path


def read(settings: ClientSettings, environ: dict[str, str] | None = None) -> Access:
    """Return what settings and environment say."""

    async def reading() -> Access:
        return await read_access(settings, environ or {}, PluginRunner())

    return asyncio.run(reading())


def of(path: Path | str) -> Access:
    """Return what a kubeconfig says."""
    return read(ClientSettings(kubeconfig=str(path)))


def connect(access: Access) -> None:
    """Make the transport, which is to be done where it is used."""

    async def making() -> None:
        check_tls(access, Transport)

    asyncio.run(making())
