"""
The host's own nft command.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from nfproxy.errors import InputError
from nfproxy.tools.preflight.facts import HostNft
from nfproxy.tools.preflight.read.files import Root
from nfproxy.tools.preflight.read.trial import run_nft

_PLACES = (
    "/usr/sbin/nft",
    "/sbin/nft",
    "/usr/bin/nft",
    "/usr/local/sbin/nft",
    "/usr/local/bin/nft",
)


def read_host_nft(root: Path, *, seen: bool) -> HostNft:
    """
    Find nft below the host's root, and call it there.

    Where the host's files cannot be `seen` there is none, and the trouble says so.
    """
    if not seen:
        return HostNft(trouble="this is a container, and the host's files are not mounted")
    path = _find(root)
    if not path:
        return HostNft()
    command: tuple[str, ...] = (path,)
    if root != Path("/"):
        chroot = shutil.which("chroot", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        if chroot is None:
            return HostNft((path,), trouble="the command chroot is missing here")
        command = (chroot, str(root), path)
    out, trouble = run_nft((*command, "--version"))
    if "Operation not permitted" in trouble:
        return HostNft(trouble="calling it takes the capability SYS_CHROOT")
    match = re.search(r"v(\d[\w.-]{0,20})", out)
    if not trouble:
        trouble = run_nft((*command, "list", "tables"))[1]
    return HostNft(command, match[1] if match else "", trouble)


def _find(root: Path) -> str:
    host = Root(root)
    for place in _PLACES:
        try:
            if host.find(place).is_file():
                return place
        except (OSError, InputError):
            continue
    return ""
