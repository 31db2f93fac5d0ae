"""
Pages for clients on loopback addresses alone: people and commands on this node.

They say more than metrics do, so they stay closed where ``metricsBindAddress`` opens metrics to
other machines. ``kubectl port-forward`` reaches them, since the pod is in the host's network.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
from aiohttp.web_request import BaseRequest
from aiohttp.web_response import Response

from nfproxy import __version__
from nfproxy.clock import process_start_s
from nfproxy.config.addresses import is_address, is_loopback, split_address_port
from nfproxy.config.load import LoadedConfig
from nfproxy.insight.changerecord import ChangeRecords
from nfproxy.insight.daemonstatus import DaemonStatus
from nfproxy.kube.timestamps import timestamp
from nfproxy.model.addresses import parse_address
from nfproxy.servers.pages import JSON, Page, answer, constant, error

_LONGEST_NUMBER = 19

_REFUSED = (
    "only for clients on this node's loopback addresses: run the command on the node or in its "
    "pod, or use kubectl port-forward"
)


def local_pages(pages: Mapping[str, Page]) -> dict[str, Page]:
    """Return pages by path that refuse clients on other addresses."""
    return {path: _for_loopback(page) for path, page in pages.items()}


def status_page(loaded: LoadedConfig, node_name: str, manifests: str) -> Page:
    """Return the page that says which nfproxy this is; `manifests` is its directory of objects."""
    body = msgspec.json.encode(
        DaemonStatus(
            version=__version__,
            pid=os.getpid(),
            node=node_name,
            started=timestamp(process_start_s()),
            manifests=str(Path(manifests).absolute()) if manifests else "",
            master=loaded.command_line.master,
            config_file=loaded.command_line.config,
            configuration=loaded.config_data,
        )
    )
    return constant(body, JSON)


def changes_page(read: Callable[[int], ChangeRecords]) -> Page:
    """Return the page of changes; `read` gives those behind a number, in a thread."""

    async def page(request: BaseRequest) -> Response:
        after = request.query.get("after", "0")
        if not (after.isascii() and after.isdigit() and len(after) < _LONGEST_NUMBER):
            return error("after: not the number of a change", 400)
        found = await asyncio.to_thread(read, int(after))
        return answer(msgspec.json.encode(found), JSON)

    return page


def json_page(make: Callable[[], object]) -> Page:
    """Return a page with a value as JSON. `make` runs in a thread."""

    async def page(request: BaseRequest) -> Response:
        return answer(msgspec.json.encode(await asyncio.to_thread(make)), JSON)

    return page


def _for_loopback(page: Page) -> Page:
    async def guarded(request: BaseRequest) -> Response:
        if not (_is_peer_on_loopback(request) and _is_host_plain(request.host)):
            return error(_REFUSED, 403)
        return await page(request)

    return guarded


def _is_peer_on_loopback(request: BaseRequest) -> bool:
    peer = request.transport.get_extra_info("peername") if request.transport else None
    # The address of an IPv4 client at a socket for both families is parsed as IPv4.
    return peer is not None and is_loopback(parse_address(peer[0].partition("%")[0]))


def _is_host_plain(host: str) -> bool:
    """
    Return whether a Host header names an address or localhost.

    A browser on this machine may be led here by a name that an attacker's DNS server resolves to a
    loopback address. It then sends that name, and lets the attacker's page read the answer.
    """
    name, _ = split_address_port(host) or (host.strip("[]"), "")
    return name in ("", "localhost") or is_address(name)
