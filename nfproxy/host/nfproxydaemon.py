"""
The nfproxy that runs in this network namespace: its process, and the pages that it serves here.

A page may say which files to read and which programs to start, so the user counts to whom the
listening socket or the process belongs: root, or the user of this process.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from nfproxy.errors import InputError, reason_of
from nfproxy.host.processes import command_line_of, pids_in_this_network
from nfproxy.model.addresses import parse_address

_PROC = Path("/proc")
_TIMEOUT_S = 3.0
_ANSWER_BYTES = 64 << 20
_LISTENING = "0A"  # TCP_LISTEN in /proc/net/tcp
_OK = b"200"

#: The code of an error: something listens, and has not answered in time.
SILENT = "silent"


class DaemonProcess(NamedTuple):
    """A process that is ``nfproxy run``; `arguments` are those behind ``run``."""

    pid: int
    arguments: list[str]


def daemon_processes(proc: Path = _PROC) -> Iterator[DaemonProcess]:
    """Yield the nfproxy daemons of this network namespace that trusted users run."""
    for pid in pids_in_this_network(proc, surely=True):
        arguments = daemon_arguments(command_line_of(pid, proc))
        if arguments is not None and pid != os.getpid() and _owner(proc / str(pid)) in _trusted():
            yield DaemonProcess(pid, arguments)


def daemon_arguments(words: list[str]) -> list[str] | None:
    """Return what follows ``nfproxy run`` in a command line; None for another program."""
    names = [Path(word).name for word in words[:5]]  # python -m nfproxy, among others
    if "nfproxy" not in names:
        return None
    arguments = words[names.index("nfproxy") + 1 :]
    if arguments[:1] != ["run"] or {"--cleanup", "--init-only"} & set(arguments):
        return None
    return arguments[1:]


class Place(NamedTuple):
    """A loopback address and a port where pages are served."""

    address: str
    port: int

    def __str__(self) -> str:
        """Return ``127.0.0.1:10249``."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}"


def ask(place: Place, path: str) -> bytes:
    """
    Return the body of a page.

    Raises InputError where no trusted process answers there with that page, with code `SILENT`
    where one listens and does not answer.
    """
    url = f"http://{place}{path}"
    try:
        # Before and after: a listener that changes hands meanwhile is not trusted either.
        _require_trusted(place)
        answer = _get(place, path)
        _require_trusted(place)
    except OSError as error:
        code = SILENT if isinstance(error, TimeoutError) else ""
        raise InputError(f"{url}: {reason_of(error)}", "is nfproxy running here?", code) from None
    if not answer.is_page:
        raise InputError(f"{url}: not a page of nfproxy's", "is another nfproxy running here?")
    if not answer.is_whole:
        raise InputError(f"{url}: the answer ended early", "is nfproxy running here?")
    return answer.body


class _Answer(NamedTuple):
    """What came: whether it is a page of nfproxy's, whether all of it came, and its body."""

    is_page: bool
    is_whole: bool
    body: bytes


def _get(place: Place, path: str) -> _Answer:
    """
    Ask for a page, and return the answer. Raises OSError.

    Not by http.client: it imports TLS and the formats of mail, which takes a quarter of the time
    that a command such as `status` has.
    """
    with socket.create_connection(place, _TIMEOUT_S) as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: {place}\r\n\r\n".encode())
        with connection.makefile("rb") as stream:
            data = stream.read(_ANSWER_BYTES)
    head, _, body = data.partition(b"\r\n\r\n")
    status, *lines = head.split(b"\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (x.partition(b":") for x in lines)}
    return _Answer(
        status.split(b" ")[1:2] == [_OK] and headers.get(b"server") == b"nfproxy",
        headers.get(b"content-length") == b"%d" % len(body),
        body,
    )


def _require_trusted(place: Place) -> None:
    owners = listener_owners(place)
    if not owners:
        raise InputError(f"no process listens at {place}", "is nfproxy running here?")
    if strangers := owners - _trusted():
        user = min(strangers)
        raise InputError(
            f"the process that listens at {place} belongs to user {user}, so it is not believed",
            "run the command as that user, or end the process",
        )


def _trusted() -> set[int]:
    return {0, os.geteuid()}


def _owner(process: Path) -> int | None:
    try:
        return process.stat().st_uid
    except OSError:
        return None


def listener_owners(place: Place, proc: Path = _PROC) -> set[int]:
    """Return the users, by number, whose sockets accept connections to an address and port."""
    address = parse_address(place.address)
    mapped = bytes(10) + b"\xff\xff" + address if len(address) == 4 else address
    port = f":{place.port:04X}"
    wanted = {f"{_hex(one)}{port}" for one in (address, mapped, bytes(4), bytes(16))}
    owners = set()
    for name in ("tcp", "tcp6"):
        try:
            with (proc / "self/net" / name).open("r", encoding="ascii", errors="replace") as file:
                next(file, None)
                for line in file:
                    words = line.split()
                    if len(words) < 8 or words[3] != _LISTENING:
                        break  # sockets that listen come first
                    if words[1] in wanted:
                        owners.add(int(words[7]))
        except OSError:  # a kernel without IPv6
            continue
    return owners


def _hex(address: bytes) -> str:
    """Return an address as /proc/net/tcp writes it: words in the order of this machine."""
    words = struct.unpack(f"!{len(address) // 4}I", address)
    return "".join(struct.pack("=I", word).hex().upper() for word in words)
