"""What :class:`~nfproxy.kube.listwatch.ListWatch` asks for and reports."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from nfproxy.kube.apistatus import Status
from nfproxy.kube.watch import Put, Removed


class WatchTimeouts(msgspec.Struct, frozen=True):
    """How long things may take, in seconds."""

    #: Without a byte for so long, the server is gone: it sends a bookmark about every minute.
    silence_s: float = 200.0
    #: Bytes came, but no whole event for so long: the stream is of no use.
    lineless_s: float = 400.0
    #: A stream that lasts so long works: earlier troubles are over.
    healthy_s: float = 5.0
    #: The initial events of a streaming list: the longest pause, and all of them.
    initial_silence_s: float = 5.0
    initial_s: float = 60.0
    #: The server ends a watch after one to two times this.
    watch_s: float = 300.0
    #: After one to two times this, list again although the watch works: a cluster whose etcd was
    #: restored has another history, and a version that it overtook resumes without an error.
    consistency_s: float = 3600.0
    #: The same after an outage, when a restored etcd is likelier.
    recheck_s: float = 600.0
    #: At the earliest one to two times this after a list, when a sign shows another history.
    relist_s: float = 10.0
    #: Between two requests for an optional resource that the server does not have.
    unavailable_s: float = 300.0


class WatchRequest(msgspec.Struct, frozen=True):
    """Open a stream; it fails when nothing arrives for `silence_s`."""

    query: Mapping[str, str]
    silence_s: float


class BeginList(msgspec.Struct, frozen=True):
    """All objects follow, from the beginning; a list that was under way does not count."""


class EndList(msgspec.Struct, frozen=True):
    """The list is complete: objects that it did not contain are gone."""

    objects: int
    seconds: float
    version: str = ""


class Trouble(msgspec.Struct, frozen=True):
    """The resource cannot be followed at the moment; the same trouble may come repeatedly."""

    what: str
    remedy: str = ""


class Healthy(msgspec.Struct, frozen=True):
    """The resource is followed, or nothing is wrong with its absence: a trouble is over."""


class Unavailable(msgspec.Struct, frozen=True):
    """
    The API server lacks or forbids the resource: do not wait for its objects.

    `is_news` where a person should learn it: once, and not while the server may still be starting.
    """

    status: Status
    is_news: bool = False


class WatchEnded(msgspec.Struct, frozen=True):
    """A stream ended: ``closed``, ``expired``, ``silent``, ``malformed`` or ``failed``."""

    reason: str


Output = Put | Removed | BeginList | EndList | Trouble | Healthy | Unavailable | WatchEnded
