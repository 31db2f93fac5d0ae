"""
A plain client of an API server, for tests of what the server does.

It speaks HTTP by the standard library, knows nothing of watches beyond lines of JSON, and
shares no code with nfproxy.
"""

from __future__ import annotations

import base64
import contextlib
import copy
import http.client
import json
import socket
import ssl
import tempfile
import urllib.parse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

TIMEOUT_S = 20.0
_READ = 65536
_TCP_CLOSE = 7


class Answer(NamedTuple):
    """What a server answered. `content` is decoded where it is JSON."""

    code: int
    headers: Mapping[str, str]
    content: Any


class Watch:
    """An open watch."""

    def __init__(self, response: http.client.HTTPResponse, sock: socket.socket) -> None:
        self._response = response
        self._read = b""
        self._socket = sock

    def set_timeout(self, seconds: float) -> None:
        """Wait no longer than that from now on."""
        self._socket.settimeout(seconds)

    def next(self) -> dict[str, Any]:
        """
        Return the next event. Raises TimeoutError after `TIMEOUT_S`.

        Raises EOFError where the stream ends in good order, ConnectionError where it breaks off.
        """
        while b"\n" not in self._read:
            try:
                data = self._response.read1(_READ)
            except http.client.IncompleteRead:
                raise ConnectionError(f"the watch breaks off after {self._read!r}") from None
            if not data:
                raise EOFError(f"the watch has ended after {self._read!r}")
            self._read += data
        line, _, self._read = self._read.partition(b"\n")
        event: dict[str, Any] = json.loads(line)
        return event

    def was_reset(self) -> bool:
        """Return whether an RST has come. To be asked before anything else is read."""
        state = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
        return bool(state == _TCP_CLOSE)

    def take(self, count: int) -> list[dict[str, Any]]:
        """Return the next so many events."""
        return [self.next() for _ in range(count)]

    def rest(self) -> list[dict[str, Any]]:
        """Return the events until the end, which is in good order."""
        events = []
        with contextlib.suppress(EOFError):
            while True:
                events.append(self.next())
        return events


class Client:
    """Asks the server that a kubeconfig names, as whom it says."""

    def __init__(self, kubeconfig: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self._server = urllib.parse.urlsplit(cluster["server"])
        self._tls = ssl.create_default_context(cafile=_file(cluster, "certificate-authority"))
        certificate = _file(user, "client-certificate")
        if certificate:
            self._tls.load_cert_chain(certificate, _file(user, "client-key"))
        self._headers = {"Accept": "application/json"}
        if "token" in user:
            self._headers["Authorization"] = f"Bearer {user['token']}"

    def anonymous(self) -> Client:
        """Return a client of the same server that does not say who it is."""
        other = copy.copy(self)
        other._headers = {"Accept": "application/json"}
        return other

    def get(self, path: str, **query: object) -> Answer:
        """GET."""
        return self.request("GET", _with(path, query))

    def post(self, path: str, item: object) -> Answer:
        """POST."""
        return self.request("POST", path, item)

    def put(self, path: str, item: object) -> Answer:
        """PUT."""
        return self.request("PUT", path, item)

    def merge(self, path: str, change: object) -> Answer:
        """PATCH, as a merge."""
        kind = "application/merge-patch+json"
        return self.request("PATCH", path, change, {"Content-Type": kind})

    def delete(self, path: str) -> Answer:
        """DELETE."""
        return self.request("DELETE", path)

    def request(
        self,
        method: str,
        path: str,
        item: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Ask, on a connection of its own."""
        with contextlib.closing(self._connection()) as connection:
            response = self._ask(connection, method, path, item, headers or {})
            body = response.read()
            is_json = response.headers.get_content_type() == "application/json"
            content = json.loads(body) if is_json else body.decode("utf-8", "replace")
            return Answer(response.status, dict(response.headers), content)

    @contextlib.contextmanager
    def open(self, path: str, headers: Mapping[str, str]) -> Iterator[http.client.HTTPResponse]:
        """GET, and leave reading the answer to the caller."""
        with contextlib.closing(self._connection()) as connection:
            yield self._ask(connection, "GET", path, None, headers)

    @contextlib.contextmanager
    def watch(self, path: str, **query: object) -> Iterator[Watch]:
        """Open a watch."""
        with contextlib.closing(self._connection()) as connection:
            path = _with(path, {"watch": 1, **query})
            response = self._ask(connection, "GET", path, None, {})
            assert response.status == 200, response.read()
            yield Watch(response, connection.sock)

    def _connection(self) -> http.client.HTTPSConnection:
        host, port = self._server.hostname or "", self._server.port
        return http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=self._tls)

    def _ask(
        self,
        connection: http.client.HTTPSConnection,
        method: str,
        path: str,
        item: object,
        headers: Mapping[str, str],
    ) -> http.client.HTTPResponse:
        body = None if item is None else json.dumps(item)
        kind = {"Content-Type": "application/json"} if body else {}
        connection.request(method, path, body, {**self._headers, **kind, **headers})
        return connection.getresponse()


def _with(path: str, query: Mapping[str, object]) -> str:
    return f"{path}?{urllib.parse.urlencode(query)}" if query else path


def _file(part: Mapping[str, str], name: str) -> str | None:
    """Return the file a kubeconfig names; one for data it holds itself."""
    if data := part.get(f"{name}-data"):
        with tempfile.NamedTemporaryFile(suffix=".pem", delete=False) as file:
            file.write(base64.b64decode(data))
        return file.name
    return part.get(name)
