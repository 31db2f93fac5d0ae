"""
One scan of the manifest files: which exist, and the content of those that changed.

It blocks, so it runs in a thread.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping, Set
from pathlib import Path

import msgspec

from nfproxy.clock import now
from nfproxy.errors import InputError, reason_of
from nfproxy.kube.heldfiles import FileContent
from nfproxy.manifests.files import Listing, Signature, list_files, read_text
from nfproxy.manifests.parsing import parse
from nfproxy.model.changes import Problem
from nfproxy.text import shown_path

DirectoryId = tuple[int, int]
_TICK_NS = 12_000_000  # file times come from a clock with at most 10 ms between ticks


class Scan(msgspec.Struct, frozen=True):
    """
    What a scan found. `error` says why the root cannot be read; then there is nothing else.

    `root_id` is the root's (device, inode): another directory of the same name has another one.
    `contents` holds the new and the changed files. `started_ns` is the time of the start, by the
    clock of file times.
    """

    listing: Listing
    contents: dict[str, FileContent]
    root_id: DirectoryId = (0, 0)
    error: str = ""
    started_ns: int = 0


def scan(
    root: str,
    known: Mapping[str, Signature],
    suspects: Set[str],
    node_name: str,
    last_started_ns: int = 0,
) -> Scan:
    """
    Return what is in a directory; read the files whose signature differs from the known one.

    Two changes within one tick of the file system's clock leave one signature. So `suspects`, files
    that an event named, are read in any case, unless they last changed clearly before the last scan
    started.
    """
    started_ns = now().unix_ns
    try:
        status = Path(root).stat()
        if not (stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode)):
            return Scan(Listing({}, {}, []), {}, error="is no directory and no regular file")
        listing = list_files(root)
    except OSError as error:
        return Scan(Listing({}, {}, []), {}, error=reason_of(error))
    contents: dict[str, FileContent] = {}
    for path, signature in listing.files.items():
        is_suspect = path in suspects and signature.ctime_ns >= last_started_ns - _TICK_NS
        if known.get(path) == signature and not is_suspect:
            continue
        try:
            contents[path] = parse(read_text(path), shown_path(path), node_name)
        except InputError as error:  # it counts as one that does not parse
            problem = Problem(shown_path(path), "", "", error.what, error.remedy)
            contents[path] = FileContent(problems=(problem,), parsed=False)
    root_id = status.st_dev, status.st_ino
    return Scan(listing, contents, root_id, started_ns=started_ns)
