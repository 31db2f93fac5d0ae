"""
Runs the readers at the same time, each with a time limit, and then the judgements in order.

A reader that fails or hangs costs only the checks that need its facts.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from nfproxy.errors import NfproxyError, reason_of
from nfproxy.host.processes import are_others_hidden
from nfproxy.text import one_line
from nfproxy.tools.preflight.findings import Finding, warn

if TYPE_CHECKING:  # the trial's child process must not import all of this
    from nfproxy.apiserver.access import ClientSettings
    from nfproxy.config.kubeproxy import KubeProxyConfiguration

_TEXT_LIMIT = 600  # characters of what is found, and of a remedy
_POLL_S = 0.02

#: Files that only a container has.
_CONTAINER_MARKS = ("/.dockerenv", "/run/.containerenv")

_LAYERED = ("overlay", "aufs", "fuse-overlayfs")


class Subject(NamedTuple):
    """
    What is examined: a node and the configuration that the daemon will be given.

    `trouble` says why the configuration cannot be used; `config` holds the defaults then.
    `warnings` are those of reading it. `settings` name the API servers; `borrowed_credentials` says
    that they are kubectl's and not the daemon's. `running` says which nfproxy runs here, "" for
    none; `files` is the directory of its objects where no API server was named. `env_host` is
    KUBERNETES_SERVICE_HOST, "" outside of pods. `node_ports` is the API server's
    --service-node-port-range. `host_root` is where the host's ``/`` is mounted, None where that is
    unknown.
    """

    config: KubeProxyConfiguration
    node_name: str
    settings: ClientSettings
    node_ports: tuple[int, int]
    trouble: NfproxyError | None = None
    warnings: tuple[str, ...] = ()
    borrowed_credentials: bool = False
    running: str = ""
    files: str = ""
    env_host: str = ""
    host_root: Path | None = None
    proc: Path = Path("/proc")

    @property
    def root(self) -> Path:
        """The host's root directory, as far as it is known."""
        return self.host_root or Path("/")

    @property
    def host_proc(self) -> Path:
        """The ``/proc`` that shows the host's processes, where it is mounted."""
        mounted = self.root / "proc"
        return mounted if (mounted / "self").exists() else self.proc

    @property
    def sees_host_files(self) -> bool:
        """Whether `root` is the host's root directory and not that of a container."""
        return self.host_root is not None or not _in_container(os.environ)


def _in_container(environ: Mapping[str, str]) -> bool:
    marks = any(Path(mark).exists() for mark in _CONTAINER_MARKS)
    return "KUBERNETES_SERVICE_HOST" in environ or (marks and not is_machines_root())


def is_machines_root(proc: Path = Path("/proc")) -> bool:
    """
    Return whether this process's root directory is surely that of the machine.

    A machine that was made from a container's image has a container's marks, too. ``ip netns exec``
    changes mounts, and keeps the root directory. The root of a container is made of layers, or is a
    directory of a larger file system. Where it is a disk (LXC), the pid namespace shows it.
    """
    if are_others_hidden(proc):
        return False
    try:
        lines = (proc / "self/mountinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return False
    # The last one is on top, see proc(5): ID, parent, device, root, mount point, ... - type, source
    found = False
    for words in map(str.split, lines):
        if len(words) > 6 and words[4] == "/" and "-" in words[6:-1]:
            kind = words[words.index("-", 6) + 1]
            found = words[3] == "/" and kind not in _LAYERED and not words[2].startswith("0:")
    return found


class FactSource(NamedTuple):
    """
    Facts of one kind: `name` for people, and how to read them.

    `read` is called in a thread of its own with the subject and the facts of the sources that it
    `needs`. `limit_s` is the time from the beginning of the examination, waiting included.
    """

    name: str
    read: Callable[..., object]
    needs: tuple[FactSource | IfKnown, ...] = ()
    limit_s: float = 8.0


class IfKnown(NamedTuple):
    """A source whose facts are replaced by None where they cannot be read."""

    source: FactSource


class Check(NamedTuple):
    """
    One or more lines of the report.

    `judge` computes a finding, or several, from the facts of `needs`, in their order. It does no
    I/O: a unit test calls it with values.
    """

    name: str
    judge: Callable[..., Finding | Iterable[Finding]]
    needs: tuple[FactSource | IfKnown, ...]


class UnreadError(NfproxyError):
    """Facts that a check needs could not be read."""


class Examination:
    """All facts that some checks need. The main thread reads and judges."""

    def __init__(self, subject: Subject, checks: Iterable[Check]) -> None:
        """Collect the sources of the checks, and those that these need in turn."""
        self._subject = subject
        self._began = time.monotonic()
        self._readings: dict[FactSource, Future[object]] = {}
        for check in checks:
            self._add(check.needs)

    def _add(self, needs: Iterable[FactSource | IfKnown]) -> None:
        for need in needs:
            source = need.source if isinstance(need, IfKnown) else need
            if source not in self._readings:
                self._readings[source] = Future()
                self._add(source.needs)

    def read(self, progress: Callable[[str], None]) -> None:
        """Read all sources at the same time; return when each has ended or its time is up."""
        for source in self._readings:
            # A daemon thread: one that hangs does not keep the process alive.
            name = f"read {source.name}"
            threading.Thread(target=self._read, args=(source,), name=name, daemon=True).start()
        while waiting := [
            source.name
            for source, reading in self._readings.items()
            if not reading.done() and self._time_left(source) > 0
        ]:
            progress(f"looking at {', '.join(waiting)}")
            time.sleep(_POLL_S)
        progress("")

    def _read(self, source: FactSource) -> None:
        reading = self._readings[source]
        try:
            reading.set_result(source.read(self._subject, *self.facts(source.needs)))
        except Exception as error:  # whatever happened: the other checks go on
            reading.set_exception(error)

    def _time_left(self, source: FactSource) -> float:
        return max(0.0, self._began + source.limit_s - time.monotonic())

    def facts(self, needs: Iterable[FactSource | IfKnown]) -> list[Any]:
        """Wait for the facts of some sources and return them. Raises UnreadError."""
        return [self._fact(need) for need in needs]

    def _fact(self, need: FactSource | IfKnown) -> object:
        if isinstance(need, IfKnown):
            try:
                return self._fact(need.source)
            except UnreadError:
                return None
        reading = self._readings[need]
        wait([reading], self._time_left(need))
        if not reading.done():
            raise UnreadError(f"{need.name}: nothing was found within {need.limit_s:g} s")
        if error := reading.exception():
            raise UnreadError(f"{need.name}: {reason_of(error)}") from error
        return reading.result()


def examine(
    subject: Subject, checks: Sequence[Check], progress: Callable[[str], None]
) -> list[Finding]:
    """
    Return the findings of all checks, in their order.

    `progress` receives what is being waited for, "" in the end.
    """
    examination = Examination(subject, checks)
    examination.read(progress)
    return [
        msgspec.structs.replace(
            finding,
            check=check.name,
            found=one_line(finding.found, _TEXT_LIMIT),
            remedy=one_line(finding.remedy, _TEXT_LIMIT),
        )
        for check in checks
        for finding in _judge(check, examination)
    ]


def _judge(check: Check, examination: Examination) -> Sequence[Finding]:
    try:
        found = check.judge(*examination.facts(check.needs))
        return [found] if isinstance(found, Finding) else list(found)
    except UnreadError as error:
        remedy = "look at it on the node; `privileges` says what this process may do"
        return [warn(f"not looked at: {error}", remedy)]
    except Exception as error:
        remedy = "report it: the other checks are not affected"
        return [warn(f"this check failed: {type(error).__name__}: {error}", remedy)]


SUBJECT = FactSource("the configuration", lambda subject: subject)
RUNNING_HERE = FactSource("the nfproxy that runs here", lambda subject: subject.running)
