"""
List and watch one resource: the protocol as a state machine, without a socket, clock or sleep.

The task around it (:mod:`nfproxy.apiserver.reflector`) does what the machine asks::

    wait wait_s ──► next_request() ──► ListRequest ──► page()
                         ▲        └──► WatchRequest ─► opened() ─► received() … closed()
                         └─────────────── failed() at any point ◄──┘

Each input returns outputs, in order: what the object cache gets (`BeginList`, `Put`, `Removed`,
`EndList`), and what people learn (`Trouble`, `Healthy`, `Unavailable`, `WatchEnded`). Times are
arguments, in seconds of any one clock.

Source of the rules: "Kubernetes API Concepts", and client-go's reflector.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from nfproxy.backoff import Backoff
from nfproxy.kube.apistatus import GONE, TOO_LONG, RequestError, Status, forbidden, refused
from nfproxy.kube.history import is_before
from nfproxy.kube.listbounds import ListBounds
from nfproxy.kube.pagedlist import ListRequest, PagedList
from nfproxy.kube.protocol import (
    BeginList,
    EndList,
    Healthy,
    Output,
    Trouble,
    Unavailable,
    WatchEnded,
    WatchRequest,
    WatchTimeouts,
)
from nfproxy.kube.resources import Resource
from nfproxy.kube.watch import (
    MAX_FRAME_BYTES,
    OBJECT_EVENTS,
    Bookmark,
    LineSplitter,
    Put,
    Removed,
    StreamError,
    decode_event,
    not_an_event,
    read_control,
    read_page,
)
from nfproxy.mismatch import UNREADABLE

# Answers to a streaming list that do not show whether a list in pages would work. Others do:
# 400 and 422 where the feature gate WatchList is off or the server older, 500 and 504 where its
# etcd is too old to report progress.
_NOT_ABOUT_STREAMING = (401, 403, 404, 429, 503)
_CONFIRM_UNAVAILABLE_AFTER = 8  # answers, which take about 20 s
_LINELESS = "the API server sends bytes, but no whole event"
_GARBLED = "check for a proxy or load balancer that changes answers"
_CUT_OFF = "check that no proxy or load balancer in between cuts connections"


class ListWatch:
    """
    The state of listing and watching one resource. It has no end; the caller may stop at any time.

    `wait_s` is how long to wait before `next_request`. While `is_open`, the caller reads the
    stream; once it is False, the caller closes it. When `deadline_at` passes while the caller waits
    for a chunk, it calls `time_passed`.
    """

    def __init__(
        self, resource: Resource, timeouts: WatchTimeouts, random: Callable[[], float]
    ) -> None:
        """Start with a list; `random` returns numbers from 0 to 1."""
        self._resource = resource
        self._timeouts = timeouts
        self._random = random
        self._retries = Backoff(jitter=random)
        self._absences = Backoff(jitter=random)  # answers in a row that an optional one is absent
        self.wait_s = 0.0
        self.is_open = False
        self.deadline_at: float | None = None

        # The version up to which the cache has everything; "" until a list is complete.
        self._version = ""
        self._list_at = float("inf")  # when to list again, to find what the watch cannot show
        self._relist_at = 0.0  # when to list again at the earliest, if the history is another
        # The latest event about an object, if it came after `_version`. Its version is decoded only
        # when a watch resumes from it: that saves a pass over the JSON of every event.
        self._latest: Put | Removed | None = None
        self._malformed_at: str | None = None  # the version after which a line was no event
        self._is_relisting = False  # because of an expired version, and no stream has lasted since
        # The list under way.
        self._streams_list = True  # else in pages
        self._is_paging = False  # the last request was for a page
        self._pages = PagedList(resource.selectors)
        self._bounds = ListBounds()
        self._began_at = 0.0
        self._objects = 0
        # The stream under way, or the last one.
        self._lines = LineSplitter()
        self._was_opened = self._has_lasted = self._has_received = False
        self._healthy_at = self._silent_at = self._lineless_at = 0.0

    # -- what to ask ------------------------------------------------------------------------

    def next_request(self, now_s: float) -> ListRequest | WatchRequest:
        """Return what to ask after waiting for `wait_s`."""
        self.wait_s = 0.0
        self._is_paging = self.is_open = self._was_opened = False
        self._has_lasted = self._has_received = False
        self._lines = LineSplitter()
        self._read_version()
        if now_s >= self._list_at:
            self._forget_version()
        if self._version:
            return self._watch({"resourceVersion": self._version})
        if self._streams_list:
            self._began_at = now_s
            self._bounds.begin()
            initial = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
            return self._watch(initial)
        self._is_paging = True
        request = self._pages.request(self._bounds.body_bytes)
        if request.is_first:
            self._bounds.begin()
            self._began_at = now_s
        return request

    def _watch(self, query: Mapping[str, str]) -> WatchRequest:
        # The nodes of a cluster must not all open their watches at the same moment.
        timeout_s = round(self._timeouts.watch_s * (1 + self._random()))
        common = {"watch": "1", "allowWatchBookmarks": "true", "timeoutSeconds": str(timeout_s)}
        selectors = self._resource.selectors
        return WatchRequest({**selectors, **common, **query}, self._timeouts.silence_s)

    # -- a list in pages --------------------------------------------------------------------

    def page(self, body: bytes, now_s: float) -> list[Output]:
        """Take the answer to a ListRequest."""
        try:
            page = read_page(body)
        except StreamError as error:
            self._pages.reset()
            return self._malformed(error)
        if not self._pages.fits(page):
            gone = RequestError("a list changed between its pages", status=Status(code=GONE))
            return self.failed(gone, now_s)
        outputs: list[Output] = [] if self._pages.has_begun else [BeginList()]
        try:
            self._bounds.add(len(body))
            self._pages.add(page, len(body))
        except StreamError as error:
            self._pages.reset()
            return self._malformed(error)
        outputs += map(Put, page.items)
        if not page.continue_token:
            self._version, self._objects = page.version, self._pages.objects
            self._pages.reset()
            self._streams_list = True  # the next list may be streamed again
            outputs.append(self._end_list(now_s))
        return outputs

    def _end_list(self, now_s: float) -> EndList:
        self._absences.reset()
        self._pages.learn(self._objects, self._bounds.complete())
        self._list_at = now_s + self._timeouts.consistency_s * (1 + self._random())
        self._relist_at = now_s + self._timeouts.relist_s * (1 + self._random())
        return EndList(self._objects, now_s - self._began_at, self._version)

    def list_again(self, now_s: float) -> None:
        """List again, because objects or versions show another history than before."""
        self._list_at = min(self._list_at, max(now_s, self._relist_at))
        if self.deadline_at is not None:
            self.deadline_at = min(self.deadline_at, self._list_at)

    # -- a stream ---------------------------------------------------------------------------

    def opened(self, now_s: float) -> list[Output]:
        """Take it that the answer to a WatchRequest is a stream, of which nothing is read yet."""
        self.is_open = self._was_opened = True
        self._healthy_at = now_s + self._timeouts.healthy_s
        self._silent_at = now_s + self._timeouts.initial_silence_s
        self._lineless_at = now_s + self._timeouts.lineless_s
        self._objects = 0
        begin: list[Output] = [] if self._version else [BeginList()]
        return begin + self.time_passed(now_s)

    def received(self, chunk: bytes, now_s: float) -> list[Output]:
        """Take bytes of the stream. Hot path: an event costs one pass over its JSON here."""
        outputs: list[Output] = []
        self._has_received = True
        try:
            if not self._version:
                self._bounds.add(len(chunk))
            lines = self._lines.feed(chunk)
            if lines:
                self._lineless_at = now_s + self._timeouts.lineless_s
            for line in lines:
                raw = decode_event(line)
                if of_object := OBJECT_EVENTS.get(raw.type):
                    event = of_object(raw.object)
                    outputs.append(event)
                    if self._version:
                        self._latest = event
                    else:
                        # Versions in a list are in no order: a watch cannot resume from them.
                        self._objects += 1
                elif control := read_control(raw):
                    outputs += self._control(control, now_s)
                    if not self.is_open:
                        return outputs
            if self._lines.is_too_long:
                raise StreamError(f"a watch event is longer than {MAX_FRAME_BYTES} bytes")
        except UNREADABLE:
            return outputs + self._malformed(not_an_event(line))
        except StreamError as error:
            return outputs + self._malformed(error)
        self._silent_at = now_s + self._timeouts.initial_silence_s
        return outputs + self.time_passed(now_s)

    def closed(self, now_s: float) -> list[Output]:
        """Take it that the server ended the stream in order."""
        outputs = self._check_lasted(now_s)
        self._streams_list &= bool(self._version)
        return outputs + self._ended("closed", "the API server ends each watch at once", _CUT_OFF)

    def _control(self, event: Bookmark | Status, now_s: float) -> list[Output]:
        """Take an event that is about the stream, not about an object."""
        if isinstance(event, Status):
            return self.failed(refused(event, event.reason), now_s)
        if self._version:
            if is_before(event.version, self._version):
                self._forget_version()
                return self._ended("expired")
            if event.version:
                self._version, self._latest = event.version, None
            return []
        if not event.is_complete:
            # An API server that ignores sendInitialEvents sends objects and ordinary bookmarks, but
            # never says that the objects are all.
            return self._list_in_pages()
        self._version = event.version
        return [self._end_list(now_s)]

    def time_passed(self, now_s: float) -> list[Output]:
        """Act on the deadlines that have passed, and set the next one."""
        outputs = self._check_lasted(now_s)
        if now_s >= self._lineless_at:
            return outputs + self._ended("silent", _LINELESS, _CUT_OFF)
        if self._version and now_s >= self._list_at:
            return outputs + self._ended("closed")
        deadlines = [self._lineless_at] if self._has_lasted else [self._healthy_at]
        if not self._version:
            # An API server that does not stream lists may also send nothing at all.
            list_by = min(self._silent_at, self._began_at + self._timeouts.initial_s)
            if now_s >= list_by:
                return outputs + self._list_in_pages()
            deadlines.append(list_by)
        else:
            deadlines.append(self._list_at)
        self.deadline_at = min(deadlines)
        return outputs

    def _check_lasted(self, now_s: float) -> list[Output]:
        """Once a stream has lasted, forget what was wrong before."""
        if self._has_lasted or now_s < self._healthy_at:
            return []
        self._has_lasted = True
        self._is_relisting = False
        self._retries.reset()
        return [Healthy()]

    def _list_in_pages(self) -> list[Output]:
        """Give up the streaming list and ask for pages at once; nothing is wrong."""
        self.is_open, self.deadline_at, self._streams_list = False, None, False
        return []

    # -- what went wrong --------------------------------------------------------------------

    def failed(self, error: RequestError, now_s: float) -> list[Output]:
        """Take it that a request failed, or that its stream broke."""
        outputs = self._check_lasted(now_s) if self.is_open else []
        status = error.status
        if not self._version:
            if self._is_paging and status.is_expired and self._pages.start_over():
                return outputs
            says_nothing = status.code < 400 or status.code in _NOT_ABOUT_STREAMING
            if not (self._is_paging or says_nothing):
                return outputs + self._list_in_pages()
            self._pages.reset()
            # A list that broke off may get through in pages.
            self._streams_list &= not self._was_opened
        if self._version and not self._was_opened:
            recheck_at = now_s + self._timeouts.recheck_s * (1 + self._random())
            self._list_at = min(self._list_at, recheck_at)
        if status.is_expired:
            # The first expired version after a watch shows that the server is back after an outage:
            # the back-off of the outage need not delay the list.
            if not self._is_relisting:
                self._retries.reset()
            self._is_relisting = True
            self._forget_version()
            return outputs + self._ended("expired")
        if error.is_silent and self._was_opened and not self._has_received:
            # Not even a bookmark: a server that was restored from a backup waits in silence for a
            # version that it has not reached yet. But if the server could not be reached, the
            # version is still good: after an outage, not every node should list everything.
            self._forget_version()
        if self._resource.is_optional and status.code in (403, 404):
            return outputs + self._unavailable(status)
        what, remedy = error.what, error.remedy
        if status.code == 403:
            what, remedy = forbidden(self._resource.group, self._resource.plural, status.message)
            outputs.append(Unavailable(status))
        if error.code == TOO_LONG:
            self._pages.shrink()
        reason = "silent" if error.is_silent else "failed"
        return outputs + self._ended(reason, what, remedy, status, error.is_certain)

    def crashed(self) -> list[Output]:
        """Take it that the caller failed while it acted on outputs: list everything again."""
        self._streams_list &= bool(self._version) or not self._was_opened
        self._forget_version()
        self._pages.reset()
        return self._ended("failed")

    def _malformed(self, error: StreamError) -> list[Output]:
        """Resume before the line; where that has been tried already, list again."""
        self._streams_list &= bool(self._version) or not self._was_opened
        self._read_version()
        if self._version == self._malformed_at:
            self._forget_version()
        self._malformed_at = self._version
        remedy = error.remedy or _GARBLED
        is_certain = self._is_paging or error.code == TOO_LONG
        return self._ended("malformed", error.what, remedy, is_certain=is_certain)

    def _read_version(self) -> None:
        """
        Set the version to that of the latest event.

        An object without a readable version leaves an older one in place: then the server repeats
        some events, which is harmless. A version that went back shows another history: list again.
        """
        if self._latest is not None:
            before, self._version = self._version, self._latest.version or self._version
            self._latest = None
            if is_before(self._version, before):
                self._forget_version()

    def _forget_version(self) -> None:
        self._version, self._latest = "", None

    def _unavailable(self, status: Status) -> list[Output]:
        """
        Wait longer for an optional resource, which the API server need not have.

        A server that has just started forbids everything for a moment: the first answers lead to
        short waits, and only a later one is news.
        """
        self.is_open, self.deadline_at = False, None
        if self._absences.failures < _CONFIRM_UNAVAILABLE_AFTER:
            self.wait_s = self._absences.next_s()
            return [Unavailable(status), Healthy()]
        self.wait_s = self._timeouts.unavailable_s * (1 + self._random())
        is_news = self._absences.failures == _CONFIRM_UNAVAILABLE_AFTER
        self._absences.failures += 1
        return [Unavailable(status, is_news), Healthy()]

    def _ended(
        self,
        reason: str,
        what: str = "",
        remedy: str = "",
        status: Status | None = None,
        is_certain: bool = False,
    ) -> list[Output]:
        """
        Decide how long to wait and whether a person should know.

        After a stream that lasted, ask again at once. The first short stream is no news; the second
        in a row is, and so are every answer with an error code and every certain failure.
        """
        self.is_open, self.deadline_at = False, None
        outputs: list[Output] = [WatchEnded(reason)] if self._was_opened else []
        if self._has_lasted and reason != "failed" and not is_certain:
            return outputs
        self._absences.reset()
        self.wait_s = self._retries.next_s(status.retry_after_s if status else None)
        if what and (self._retries.failures > 1 or is_certain or (status and status.code)):
            outputs.append(Trouble(what, remedy))
        return outputs
