"""
A page at an address from the configuration: health or metrics.
"""

from __future__ import annotations

import asyncio
import logging
import socket

from nfproxy.errors import ListenError
from nfproxy.servers.listening import listen_at
from nfproxy.servers.pages import Page
from nfproxy.servers.serving import Connections, Serving

log = logging.getLogger(__name__)

#: As kube-proxy: how long after a failure to listen it is tried again.
RETRY_S = 5.0

_CONNECTIONS = 100


class PageServer:
    """Serves a page at ``IP:port`` for as long as `run` runs."""

    def __init__(
        self,
        name: str,
        address: str,
        page: Page,
        *,
        hard_fail: bool = False,
        retry_s: float = RETRY_S,
    ) -> None:
        """
        Remember what to serve where; `name` is for the log.

        `hard_fail`: not being able to listen is fatal (``bindAddressHardFail``).
        """
        self._name = name
        self._address = address
        self._page = page
        self._hard_fail = hard_fail
        self._retry_s = retry_s
        self._serving: Serving | None = None

    async def run(self) -> None:
        """
        Serve until cancelled; then finish the answers under way.

        An address that cannot be listened on is tried again and again; with `hard_fail` that
        raises ListenError instead.
        """
        listening = await self._listen()
        self._serving = Serving(self._page, Connections(_CONNECTIONS))
        try:
            await self._serving.start(listening)
            log.info("serving %s on %s", self._name, self._address)
            await asyncio.Future()
        finally:
            await self._serving.close()
            self._serving = None
            listening.close()

    @property
    def listening(self) -> tuple[tuple[str, int], ...]:
        """Where it is served now: host and port, nothing while that cannot be."""
        if self._serving is None:
            return ()
        return tuple(opened.getsockname()[:2] for opened in self._serving.sockets)

    async def _listen(self) -> socket.socket:
        told = ""
        while True:
            try:
                return listen_at(self._address)
            except ListenError as error:
                if self._hard_fail:
                    raise
                if str(error) != told:
                    told = str(error)
                    log.error("%s: %s; trying again every %g s", self._name, told, self._retry_s)
            await asyncio.sleep(self._retry_s)
