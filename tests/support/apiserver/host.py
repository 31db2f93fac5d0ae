"""The stand-in as a whole, in an event loop: server, sockets, certificates."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path

from support.apiserver.certificates import Authority
from support.apiserver.listening import Listener, MakeSocket
from support.apiserver.server import Server, Settings

_NAMES = ("localhost", "kubernetes", "kubernetes.default.svc", "127.0.0.1", "::1")


class Host:
    """
    A server that listens. Made, used and closed in one event loop.

    `directory` must be there; certificates and keys are kept in it, those of clients too. One
    `beside` another has the same CA and users, and the same objects at the same versions.
    """

    def __init__(
        self,
        directory: Path,
        make_socket: MakeSocket,
        addresses: Sequence[str],
        port: int,
        settings: Settings,
        beside: Host | None = None,
    ) -> None:
        self.directory = directory
        self.authority = beside.authority if beside else Authority(directory)
        self.server = Server(settings)
        if beside is not None:
            self.server.store, self.server.access = beside.server.store, beside.server.access
        self._names = tuple(dict.fromkeys((*_NAMES, *addresses, *settings.names)))
        self.listener = Listener(self.server.http, make_socket, addresses, self.server.faults.gate)
        self.renew_certificate()
        self.listener.open(port)

    def renew_certificate(self, *, other_ca: bool = False, expired: bool = False) -> None:
        """Show new connections a new certificate, perhaps one that they must not trust."""
        issuer = Authority(self.directory, "other-ca") if other_ca else self.authority
        pair = issuer.server(self._names, expired=expired)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self.authority.file)
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_cert_chain(pair.certificate, pair.key)
        context.set_alpn_protocols(["http/1.1"])
        self.listener.context = context

    async def close(self) -> None:
        """End everything."""
        await self.listener.close()
        await self.listener.abort_connections()
        await self.server.http.shutdown(0)
