"""The host's own nft command: where it is, its version, whether it works on the host's tables."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from nfproxy.errors import InputError, reason_of
from nfproxy.host.paths import HostRoot
from nfproxy.tools.preflight.examine import FactSource

_PLACES = (
    "/usr/sbin/nft",
    "/sbin/nft",
    "/usr/bin/nft",
    "/usr/local/sbin/nft",
    "/usr/local/bin/nft",
)

#: What is said of files of the host that are not visible from a container, and what to do.
HIDDEN = "the host's files are not here"
MOUNT_IT = "mount the host's / read-only, and name it with --host-root"

_CALL_S = 6.0
_LIMIT_S = 12.0
_CHROOT_FAILED = 125  # the exit status of chroot(1) where it cannot change the root directory


class HostNft(NamedTuple):
    """
    The nft command of the host.

    `command` is how to call it, () where the host has none. `trouble` says why it cannot be called,
    or how it failed on the host's own tables; `crashed` says that a signal ended it there.
    `is_hidden` says that the host's files are not visible from here.
    """

    command: tuple[str, ...] = ()
    version: str = ""
    trouble: str = ""
    crashed: bool = False
    is_hidden: bool = False


class NftCall(NamedTuple):
    """A finished call of nft: what it printed, and why it failed ("" where it did not)."""

    output: str = ""
    trouble: str = ""
    status: int = 0

    @property
    def crashed(self) -> bool:
        """Whether a signal ended it."""
        return self.status < 0


def read_host_nft(root: Path, *, seen: bool) -> HostNft:
    """
    Find nft below the host's root directory and call it there.

    The host's files may not be `seen` from here.
    """
    if not seen:
        return HostNft(is_hidden=True)
    path = _find(root)
    if not path:
        return HostNft()
    command: tuple[str, ...] = (path,)
    if root != Path("/"):
        chroot = shutil.which("chroot", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        if chroot is None:
            return HostNft((path,), trouble="the command chroot is missing here")
        command = (chroot, str(root), path)
    asked = call_nft((*command, "--version"))
    if asked.status == _CHROOT_FAILED:
        return HostNft(trouble="calling it takes the capability SYS_CHROOT")
    version = re.search(r"v(\d[\w.-]{0,20})", asked.output)
    listed = asked if asked.trouble else call_nft((*command, "list", "tables"))
    return HostNft(command, version[1] if version else "", listed.trouble, listed.crashed)


def _find(root: Path) -> str:
    host = HostRoot(root)
    for place in _PLACES:
        try:
            if host.find(place).is_file():
                return place
        except (OSError, InputError):
            continue
    return ""


def call_nft(command: Sequence[str]) -> NftCall:
    """Call an nft; never raises, whether it fails, crashes or hangs."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            timeout=_CALL_S,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
        )
    except subprocess.TimeoutExpired:
        return NftCall(trouble=f"nft did not finish within {_CALL_S:g} s")
    except OSError as error:
        return NftCall(trouble=f"{command[0]}: {reason_of(error)}")
    status = done.returncode
    if status < 0:
        return NftCall("", f"signal {-status} ended it (11 is a crash)", status)
    words = " ".join(done.stderr.split()) or f"exit status {status}"
    return NftCall(done.stdout, words if status else "", status)


HOST_NFT = FactSource(
    "the host's nft",
    lambda subject: read_host_nft(subject.root, seen=subject.sees_host_files),
    limit_s=_LIMIT_S,
)
