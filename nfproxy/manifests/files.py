"""Manifest files on disk: which exist, and what is in them."""

from __future__ import annotations

import os
import stat
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec

from nfproxy.errors import InputError, reason_of

SUFFIXES = (".yaml", ".yml", ".json")
STDIN = "-"
MIB = 1 << 20
MAX_YAML_MIB = 32  # some 7 s of parsing; the densest takes four times that
MAX_JSON_MIB = 256
_SNIFF = 1024
_BOM = b"\xef\xbb\xbf"


class Signature(NamedTuple):
    """What differs between two states of a file."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


class Listing(msgspec.Struct, frozen=True):
    """
    The manifest files below a directory, in reading order.

    `unreadable` maps paths of directories and files that could not be read to the reason: what is
    below them is unknown, not absent. `links` are the symbolic links among all these.
    """

    files: dict[str, Signature]
    unreadable: dict[str, str]
    links: list[str]

    @property
    def lack(self) -> str:
        """What a person should know who meant this directory to hold manifests; "" for nothing."""
        known = self.files or self.unreadable
        return "" if known else f"holds no file that nfproxy reads ({', '.join(SUFFIXES)})"


class Text(msgspec.Struct, frozen=True):
    """What is in a file: bytes without byte order mark, and whether they look like JSON."""

    data: bytes
    json: bool
    json_only: bool


def list_files(root: str) -> Listing:
    """
    Return the manifest files of a directory, or the one file that `root` is.

    They are in order of path, without names that start with a dot: editors' swap files, and the
    directories behind a ConfigMap volume, whose files are seen through their links. Links are
    followed; a directory that is reached twice counts once. Raises OSError if `root` cannot be
    read.
    """
    status = Path(root).stat()
    if not stat.S_ISDIR(status.st_mode):
        return Listing({root: _signature(status)}, {}, [])
    os.scandir(root).close()  # an unreadable root is an error, an unreadable part is not
    listing = Listing({}, {}, [])
    seen = {(status.st_dev, status.st_ino)}
    waiting = deque([root])
    while waiting:
        waiting += _look_into(waiting.popleft(), seen, listing)
    return Listing(dict(sorted(listing.files.items())), listing.unreadable, listing.links)


def _look_into(directory: str, seen: set[tuple[int, int]], listing: Listing) -> list[str]:
    """Add one directory's files to a listing and return the directories in it."""
    try:
        with os.scandir(directory) as found:
            members = sorted((e for e in found if not e.name.startswith(".")), key=_name)
    except OSError as error:
        listing.unreadable[directory] = reason_of(error)
        return []
    directories: list[str] = []
    for member in members:
        if member.is_symlink():
            listing.links.append(member.path)
        try:
            status = member.stat()
        except FileNotFoundError:
            if member.name.endswith(SUFFIXES) and member.is_symlink():
                listing.unreadable[member.path] = "is a link to nothing"
            continue
        except OSError as error:
            listing.unreadable[member.path] = reason_of(error)
            continue
        if stat.S_ISDIR(status.st_mode):
            identity = status.st_dev, status.st_ino
            if identity not in seen:
                seen.add(identity)
                directories.append(member.path)
        elif member.name.endswith(SUFFIXES):
            if stat.S_ISREG(status.st_mode):
                listing.files[member.path] = _signature(status)
            else:
                listing.unreadable[member.path] = "is not a regular file"
    return directories


def _name(member: os.DirEntry[str]) -> str:
    return member.name


def _signature(status: os.stat_result) -> Signature:
    return Signature(
        status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    )


def read_text(path: str) -> Text:
    """
    Return what is in a file, or on standard input for ``-``.

    Raises InputError for one that cannot be read or is larger than its format
    allows; a large file is refused by its size, without being read.
    """
    try:
        if path == STDIN:
            return _read(sys.stdin.buffer, size=0, json_only=False)
        regular = stat.S_ISREG(Path(path).stat().st_mode)
        with open(path, "rb", opener=_without_waiting if regular else None) as file:
            size = os.fstat(file.fileno()).st_size
            return _read(file, size, json_only=path.endswith(".json"))
    except OSError as error:
        raise InputError(f"cannot be read: {reason_of(error)}") from None


def _without_waiting(path: str, flags: int) -> int:
    """Open a file that looks regular but may block its reader for ever, as some in /proc do."""
    return os.open(path, flags | os.O_NONBLOCK)


def _read(file: BinaryIO, size: int, json_only: bool) -> Text:
    """Return what is in a file of `size` bytes, 0 for a pipe of unknown size."""
    head = b"".join(_chunks(file, _SNIFF))
    json = json_only or head.removeprefix(_BOM).lstrip().startswith(b"{")
    limit = MAX_JSON_MIB if json else MAX_YAML_MIB
    if size > limit * MIB:
        raise _too_large(limit, json)
    if size:
        file.seek(0)
        data = file.read(size)
    else:
        data = head + b"".join(_chunks(file, limit * MIB + 1 - len(head)))
        if len(data) > limit * MIB:
            raise _too_large(limit, json)
    return Text(data.removeprefix(_BOM), json, json_only)


def _too_large(limit: int, json: bool) -> InputError:
    remedy = "split it" if json else "split it, or convert it to JSON, which is read faster"
    return InputError(f"is larger than {limit} MiB, the limit for its format", remedy)


def _chunks(file: BinaryIO, size: int) -> Iterator[bytes]:
    """Yield at most `size` bytes in all; a pipe gives them in parts."""
    while size > 0 and (chunk := file.read(min(size, MIB))):
        yield chunk
        size -= len(chunk)
