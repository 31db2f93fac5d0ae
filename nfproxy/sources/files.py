"""
Manifest files on disk: which there are, and what is in them.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec

from nfproxy.errors import InputError

SUFFIXES = (".yaml", ".yml", ".json")
STDIN = "-"
MIB = 1 << 20
MAX_YAML_MIB = 32  # some 7 s of parsing
MAX_JSON_MIB = 256
_SNIFF = 1024
_BOM = b"\xef\xbb\xbf"


class Signature(NamedTuple):
    """What tells one state of a file from another."""

    device: int
    inode: int
    size: int
    mtime_ns: int


class Listing(msgspec.Struct, frozen=True):
    """
    The manifest files below a directory, in reading order, and what could not be looked at.

    `unreadable` maps paths of directories (and files) to the reason; what is below them is
    unknown and not absent.
    """

    files: dict[str, Signature]
    unreadable: dict[str, str]


class Text(msgspec.Struct, frozen=True):
    """What is in a file: bytes without byte order mark, and whether they look like JSON."""

    data: bytes
    json: bool
    json_only: bool


def shown(path: str) -> str:
    """Return a path for a message: in quotes and escaped where it holds anything odd."""
    return path if path.isprintable() else repr(path)


def list_files(root: str) -> Listing:
    """
    Return the manifest files of a directory, or the one file that `root` is.

    Order: by name, each directory's files and subdirectories together. Names that start
    with a dot are left out: editors' swap files, and the directories behind a ConfigMap
    volume, whose files are seen through their links. Links are followed; a
    directory that is reached twice counts once. Raises OSError if `root` cannot be
    looked at.
    """
    status = Path(root).stat()
    if not stat.S_ISDIR(status.st_mode):
        return Listing({root: _signature(status)}, {})
    listing = Listing({}, {})
    os.scandir(root).close()  # an unreadable root is an error, an unreadable part is not
    _walk(root, {(status.st_dev, status.st_ino)}, listing)
    return listing


def _walk(directory: str, seen: set[tuple[int, int]], listing: Listing) -> None:
    """Add what is below a directory to a listing."""
    try:
        names = sorted(name for name in os.listdir(directory) if not name.startswith("."))  # noqa: PTH208 - names, 10,000 of them
    except OSError as error:
        listing.unreadable[directory] = reason(error)
        return
    for name in names:
        path = f"{directory.rstrip('/')}/{name}"
        try:
            status = os.stat(path)  # noqa: PTH116 - Path costs more than the call
        except FileNotFoundError:
            if name.endswith(SUFFIXES) and Path(path).is_symlink():
                listing.unreadable[path] = "is a link to nothing"
            continue
        except OSError as error:
            listing.unreadable[path] = reason(error)
            continue
        if stat.S_ISDIR(status.st_mode):
            identity = status.st_dev, status.st_ino
            if identity not in seen:
                seen.add(identity)
                _walk(path, seen, listing)
        elif name.endswith(SUFFIXES):
            if stat.S_ISREG(status.st_mode):
                listing.files[path] = _signature(status)
            else:
                listing.unreadable[path] = "is not a regular file"


def _signature(status: os.stat_result) -> Signature:
    return Signature(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def read_text(path: str) -> Text:
    """
    Return what is in a file, or on standard input for ``-``.

    Raises InputError for one that cannot be read or is larger than its format
    allows; a large file is refused by its size, without being read.
    """
    try:
        if path == STDIN:
            return _read(sys.stdin.buffer, size=0, json_only=False)
        with Path(path).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            return _read(file, size, json_only=path.endswith(".json"))
    except OSError as error:
        raise InputError(f"cannot be read: {reason(error)}") from None


def _read(file: BinaryIO, size: int, json_only: bool) -> Text:
    """Return the rest of a file of at least `size` bytes; a pipe's size is not known before."""
    data = b"".join(_chunks(file, _SNIFF))
    head = data.removeprefix(_BOM).lstrip()
    json = json_only or head.startswith(b"{")
    limit = MAX_JSON_MIB if json else MAX_YAML_MIB
    if size <= limit * MIB:
        data += b"".join(_chunks(file, limit * MIB + 1 - len(data)))
    if max(size, len(data)) > limit * MIB:
        remedy = "split it" if json else "split it, or convert it to JSON, which is read faster"
        raise InputError(f"is larger than {limit} MiB, the limit for its format; {remedy}")
    return Text(data.removeprefix(_BOM), json, json_only)


def _chunks(file: BinaryIO, size: int) -> Iterator[bytes]:
    """Yield at most `size` bytes in all; a pipe gives them in parts."""
    while size > 0 and (chunk := file.read(min(size, MIB))):
        yield chunk
        size -= len(chunk)


def reason(error: OSError) -> str:
    """Return the system's words for an error."""
    return error.strerror or str(error)
