"""An HTTP proxy that only knows CONNECT, in a namespace."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Self

from nfproxy.tools.lab import Namespace


class ConnectProxy:
    """Relays connections; `targets` says to where. A context manager."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._listening = namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._listening.bind(("127.0.0.1", 0))
        self._listening.listen()
        self._open: list[socket.socket] = [self._listening]
        self.port: int = self._listening.getsockname()[1]
        self.targets: list[str] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                self._open.append(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += client.recv(1)  # what follows belongs to the target
            method, target, _ = head.decode().split(" ", 2)
            host, _, port = target.rpartition(":")
            assert method == "CONNECT"
            server = self._namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
            self._open.append(server)
            server.connect((host, int(port)))
            self.targets.append(target)
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            threading.Thread(target=_relay, args=(server, client), daemon=True).start()
            _relay(client, server)


def _relay(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
