"""
The versions of nft that tests use: the machine's own, and those of several Debian releases.

`nft_versions.sh` beside this file fetches the others; it is run here, once, so they are there
when a test asks, and a machine that cannot fetch them fails the test instead of skipping it.
"""

import functools
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).with_name("nft_versions.sh")


@dataclass(frozen=True)
class Nft:
    """An nft that can be run: in any network namespace, with any files, without root's help."""

    suite: str
    """Where it comes from: "host", or the name of a Debian release such as "trixie"."""

    version: str
    """As nft prints it, without the v: "1.1.3"."""

    command: str
    """Path of the executable; arguments follow as for nft(8)."""

    def __str__(self) -> str:
        return f"{self.suite}-{self.version}"

    @property
    def release(self) -> tuple[int, ...]:
        """The version as numbers, which compare as releases do."""
        return tuple(int(part) for part in self.version.split("."))


@functools.cache
def versions() -> tuple[Nft, ...]:
    """
    Return the host's nft, then those of other versions, oldest first.

    At least two different versions; each version once. Fetches what is missing.
    Raises `RuntimeError` with what the script said if that fails.
    """
    host = _host()
    fetched = sorted((_parse(line) for line in _listing()), key=lambda nft: nft.release)
    others = {nft.version: nft for nft in fetched if nft.version != host.version}
    return (host, *others.values())


def _host() -> Nft:
    command = shutil.which("nft", path="/usr/local/sbin:/usr/sbin:/sbin:/usr/bin")
    if command is None:
        raise RuntimeError("no nft on this machine; tests/run.sh installs it")
    printed = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    return Nft("host", printed.stdout.split()[1].removeprefix("v"), command)


def _listing() -> list[str]:
    done = subprocess.run(
        [SCRIPT, "--list"], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        raise RuntimeError(f"{SCRIPT.name} failed: {done.stderr.strip()}")
    return done.stdout.splitlines()


def _parse(line: str) -> Nft:
    suite, command, version = line.split(" ")
    return Nft(suite, version.removeprefix("v"), command)
