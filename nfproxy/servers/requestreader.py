"""
Reads HTTP/1 requests as Go's net/http does, and writes them again in one plain form.

Load balancers' probes take liberties: bare LF as the end of a line, HTTP/1.0 without a Host, folded
headers, a method of their own. kube-proxy answers what Go answers. So a request is read here by
Go's rules, and its plain form goes to aiohttp's parser: CRLF, a known method, few headers.
"""

from __future__ import annotations

import re

#: Bytes of a request line with its headers; Go allows a megabyte.
LONGEST_HEAD = 64 << 10
_LONGEST_CHUNK_LINE = 4096

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VERSION = re.compile(rb"HTTP/(\d)\.(\d)")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_IN_TARGET = re.compile(rb"[^\x00-\x20\x7f]+")
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_ABSOLUTE = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*:")
_HOST = re.compile(rb"[!$%&'()*+,\-.:;=\[\]_~0-9A-Za-z]*")
_NUMBER = re.compile(rb"[0-9]{1,18}")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?")

#: Methods that pages tell apart, or that aiohttp answers in a way of their own.
_METHODS = (b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS")

#: Headers that pages read, by their name in lower case.
_KEPT = (b"host", b"accept", b"accept-encoding")


class RefusedError(Exception):
    """A request that gets an error as its answer, and ends the connection."""

    def __init__(self, code: int, why: str = "") -> None:
        """`code` is the HTTP status code; `why` is "" where Go gives no reason, too."""
        super().__init__(code, why)
        self.code = code
        self.why = why


class RequestReader:
    """
    The requests of one connection, byte by byte.

    After an error nothing more is read. Nothing is kept but an unfinished line or head.
    """

    def __init__(self) -> None:
        """Start before the first request."""
        self._data = b""
        self._at = 0  # what is before has been read
        self._lines: list[bytes] = []  # of the head that is being read
        self._head_size = 0
        self._left = 0  # bytes of a body, or of a chunk
        self._chunked = False  # a chunked body is being read
        self._trailer = False  # its last chunk has been read
        self._refused: RefusedError | None = None
        self._raised = False

    def feed(self, data: bytes) -> bytes:
        """
        Return the plain form of what can be read with further bytes.

        Raises RefusedError, once, when everything before it has been returned: where there is
        something, at the next call; see `refused`.
        """
        plain: list[bytes] = []
        if self._refused is None:
            # One search and one copy for each piece, however small the pieces are.
            self._data, self._at = self._data[self._at :] + data, 0
            try:
                while (part := self._next()) is not None:
                    plain.append(part)
            except RefusedError as error:
                self._refused, self._data = error, b""
        if self._refused is not None and not self._raised and not plain:
            self._raised = True
            raise self._refused
        return b"".join(plain)

    @property
    def refused(self) -> bool:
        """Whether a request was refused: nothing more is read."""
        return self._refused is not None

    def end(self) -> None:
        """The client sends nothing more: a head that is not complete is refused."""
        in_body = self._left or self._chunked
        if not in_body and (self._lines or self._at < len(self._data)):
            self._refused = self._refused or RefusedError(400)

    def _next(self) -> bytes | None:
        """Return the plain form of the next piece; None if it needs more bytes."""
        if self._chunked:
            return self._next_of_chunks()
        if self._left:
            return self._piece()
        return self._head()

    def _piece(self) -> bytes | None:
        piece = self._data[self._at : self._at + self._left]
        self._at += len(piece)
        self._left -= len(piece)
        return piece or None

    def _line(self, longest: int, code: int) -> bytes | None:
        """Return the next line; None if it is not complete. Raises RefusedError if it is long."""
        end = self._data.find(b"\n", self._at)
        if (len(self._data) if end < 0 else end) - self._at > longest:
            raise RefusedError(code)
        if end < 0:
            return None
        line = self._data[self._at : end]
        self._at = end + 1
        return line.removesuffix(b"\r")

    # --- chunked bodies ------------------------------------------------------------------

    def _next_of_chunks(self) -> bytes | None:
        if self._left:
            piece = self._piece()
            return b"%x\r\n%b\r\n" % (len(piece), piece) if piece else None
        line = self._line(_LONGEST_CHUNK_LINE, 400)
        if line is None:
            return None
        if self._trailer:
            if line:
                return b""
            self._chunked = self._trailer = False
            return b"0\r\n\r\n"
        if not line:  # the end of a chunk
            return b""
        size = _CHUNK_SIZE.fullmatch(line)
        if size is None:
            raise RefusedError(400)
        self._left = int(size[1], 16)
        self._trailer = not self._left
        return b""

    # --- heads ---------------------------------------------------------------------------

    def _head(self) -> bytes | None:
        while True:
            line = self._line(LONGEST_HEAD - self._head_size, 431)
            if line is None:
                return None
            self._head_size += len(line) + 1
            if not line and self._lines:
                break
            self._lines.append(line)
            if len(self._lines) == 1:
                _request_line(line)  # what is no HTTP is refused before its end
        lines, self._lines, self._head_size = self._lines, [], 0
        method, target, version = _request_line(lines[0])
        headers = _headers(lines[1:])
        _check_host(headers, version)
        return self._plain(method, target, version, headers)

    def _plain(
        self,
        method: bytes,
        target: bytes,
        version: tuple[int, int],
        headers: dict[bytes, list[bytes]],
    ) -> bytes:
        """Return the plain form of a head, and remember what body follows."""
        plain = [b"%b %b HTTP/1.%d" % (method, target, min(version[1], 1))]
        for name in _KEPT:
            plain += [b"%b: %b" % (name, value) for value in headers.get(name, ())]
        options = {
            option.strip().lower()
            for value in headers.get(b"connection", ())
            for option in value.split(b",")
        }
        expected = [value.lower() for value in headers.get(b"expect", ())]
        body = self._body(version, headers)
        if any(value != b"100-continue" for value in expected):
            raise RefusedError(417)
        # As in Go: a client that would wait before its body is answered without it.
        if b"close" in options or expected:
            plain.append(b"Connection: close")
        elif b"keep-alive" in options:
            plain.append(b"Connection: keep-alive")
        return b"\r\n".join([*plain, *body, b"", b""])

    def _body(self, version: tuple[int, int], headers: dict[bytes, list[bytes]]) -> list[bytes]:
        """Begin to read a body, and return the header that says how long it is."""
        codings = headers.get(b"transfer-encoding", []) if version >= (1, 1) else []
        if codings:
            if len(codings) > 1 or codings[0].lower() != b"chunked":
                raise RefusedError(501, "unsupported transfer encoding")
            self._chunked = True
            return [b"Transfer-Encoding: chunked"]
        lengths = set(headers.get(b"content-length", ()))
        if not lengths:
            return []
        (length, *more) = lengths
        if more or not _NUMBER.fullmatch(length):
            raise RefusedError(400)
        self._left = int(length)
        return [b"Content-Length: %d" % self._left]


def _request_line(line: bytes) -> tuple[bytes, bytes, tuple[int, int]]:
    """Return method, target and version. Raises RefusedError."""
    method, _, rest = line.partition(b" ")
    target, _, protocol = rest.partition(b" ")
    version = _VERSION.fullmatch(protocol)
    if version is None or not _TOKEN.fullmatch(method):
        raise RefusedError(400)
    if not _is_target(target) or (method == b"PRI" and target == b"*"):
        raise RefusedError(400)
    if version[1] != b"1":
        raise RefusedError(505, "unsupported protocol version")
    # Methods make no difference to the pages, but for these.
    return method if method in _METHODS else b"GET", target, (1, int(version[2]))


def _is_target(target: bytes) -> bool:
    if not _IN_TARGET.fullmatch(target) or _BAD_ESCAPE.search(target.partition(b"?")[0]):
        return False
    return target == b"*" or target[:1] == b"/" or _ABSOLUTE.match(target) is not None


def _headers(lines: list[bytes]) -> dict[bytes, list[bytes]]:
    """Return the values of headers by their names in lower case. Raises RefusedError."""
    found: dict[bytes, list[list[bytes]]] = {}
    parts: list[bytes] = []  # of the last value: one for each line. Joined once, at the end
    for line in lines:
        if line[:1] in (b" ", b"\t"):
            if not parts:
                raise RefusedError(400)
            part = line
        else:
            name, colon, part = line.partition(b":")
            if not colon or not _TOKEN.fullmatch(name):
                raise RefusedError(400)
            parts = []
            found.setdefault(name.lower(), []).append(parts)
        parts.append(part.strip(b" \t"))
        if _CONTROL.search(parts[-1]):
            raise RefusedError(400)
    return {
        name: [b" ".join(filter(None, parts)) for parts in values] for name, values in found.items()
    }


def _check_host(headers: dict[bytes, list[bytes]], version: tuple[int, int]) -> None:
    hosts = headers.get(b"host", [])
    if not hosts and version >= (1, 1):
        raise RefusedError(400, "missing required Host header")
    if len(hosts) > 1:
        raise RefusedError(400, "too many Host headers")
    if hosts and not _HOST.fullmatch(hosts[0]):
        raise RefusedError(400, "malformed Host header")
