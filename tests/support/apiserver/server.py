"""The HTTP side: who asks, for what, and the answer."""

from __future__ import annotations

import asyncio
import gzip
import time
from typing import Any

import msgspec
from aiohttp import web
from support.apiserver import discovery, writes
from support.apiserver.access import Access
from support.apiserver.faults import Faults, refused
from support.apiserver.listening import abort
from support.apiserver.listing import (
    Options,
    asks_to_drop_managed_fields,
    drop_managed_fields,
    list_page,
    options,
)
from support.apiserver.resources import Resource, Target
from support.apiserver.status import (
    TOO_MANY,
    StatusError,
    not_allowed,
    not_found,
    too_large_version,
)
from support.apiserver.store import Collection, Record, Store, join_key
from support.apiserver.streams import Stream, line

_JSON = "application/json"
_GZIP_FROM = 128 * 1024  # bytes; level 1, as the real server
_GZIP_LEVEL = 1
_PULSES_PER_S = 20
_NO_PROGRESS = (
    "a watch stream was requested by the client but the required storage feature "
    "RequestWatchProgress is disabled"
)


class Settings(msgspec.Struct, forbid_unknown_fields=True):
    """
    Settings of the stand-in, given when it starts or later. Times are in seconds.

    Without `streaming_lists` it refuses them, as older servers do. Without `etcd_progress` it
    begins them with an error, as newer ones do whose etcd is older than 3.4.31 or 3.5.13.
    `history` is how many changes per resource a watch can go back; `without` are resources it
    does not have; with `managed_fields_opt_out`, a gate of Kubernetes 1.38, clients may decline
    managedFields; `fresh_wait_s` is how long it waits for a version that is asked for. `names`
    are further names in its certificate.
    """

    bookmark_s: float = 60.0
    history: int = 10_000
    streaming_lists: bool = True
    etcd_progress: bool = True
    without: tuple[str, ...] = ()
    fresh_wait_s: float = 3.0
    gzip: bool = True
    managed_fields_opt_out: bool = False
    names: tuple[str, ...] = ()


class Request(msgspec.Struct):
    """A request that was made. `code` is 0 while there is no answer."""

    time_s: float
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    user: str
    resource: str
    verb: str
    code: int = 0


class Server:
    """Answers requests out of a store, to whom may ask, with faults."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = Store(settings.history)
        self.access = Access()
        self.faults = Faults()
        self.requests: list[Request] = []
        self.streams: set[Stream] = set()
        self.http = web.Server(self._handle, handler_cancellation=True, access_log=None)
        self._changed = asyncio.Event()
        self.changed_s = 0.0  # when watches were last woken, on the monotonic clock

    def collection(self, resource: str) -> Collection:
        """Return a resource's objects. Raises LookupError."""
        return self.store.collections[resource]

    def changed(self) -> None:
        """Wake who waits for a version."""
        self.changed_s = time.monotonic()
        self._changed.set()
        self._changed = asyncio.Event()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        await self.faults.gate.wait()
        target = Target.parse(request.path)
        query = {name: request.query[name] for name in request.query}  # the first of a name counts
        record = Request(
            time.monotonic(),
            request.method,
            request.path,
            query,
            {name.lower(): value for name, value in request.headers.items()},
            "",
            target.resource,
            target.verb(request.method, query),
        )
        self.requests.append(record)
        try:
            response = await self._answer(request, target, record)
        except StatusError as error:
            response = _refusal(error)
        except ConnectionError:  # the client is gone, or was sent away: there is no reader
            response = web.Response()
        await self.faults.gate.wait()
        record.code = response.status
        return response

    async def _answer(
        self, request: web.BaseRequest, target: Target, record: Request
    ) -> web.StreamResponse:
        refusal = self.faults.refusal(record.resource, record.verb)
        if refusal and refusal.body is not None:
            headers = {"Content-Type": _JSON, **refusal.headers}
            return web.Response(body=refusal.body, status=refusal.code, headers=headers)
        if refusal:
            raise refused(refusal)
        record.user = self.access.user(request)
        self.access.check(record.user, record.verb, target)
        resource = target.known()
        if resource is None or resource.plural in self.settings.without:
            return discovery.answer(target.path, self.settings.without)
        if record.verb in ("list", "watch"):
            asked = options(target, resource, record.query, self.settings.streaming_lists)
            accept = request.headers.get("Accept", "")
            if self.settings.managed_fields_opt_out and asks_to_drop_managed_fields(accept):
                asked = msgspec.structs.replace(asked, drops_managed_fields=True)
            if asked.watch:
                return await self._watch(request, resource, asked, record)
            return await self._list(request, resource, asked)
        return await self._object(request, target, resource, record)

    async def _object(
        self, request: web.BaseRequest, target: Target, resource: Resource, record: Request
    ) -> web.Response:
        code, body = 200, await request.read()
        if record.query.get("dryRun"):
            return _json(writes.without_writing(self.store, resource, target, record.verb, body))
        match record.verb:
            case "get":
                key = join_key(resource, target.namespace, target.name)
                found = self.collection(resource.plural).records.get(key)
                if found is None:
                    raise not_found(resource, target.name)
                return _document(found, resource)
            case "create":
                record, code = writes.create(self.store, resource, target, body), 201
            case "update":
                record, new = writes.replace(self.store, resource, target, body)
                code = 201 if new else 200
            case "patch":
                record = writes.patch(self.store, resource, target, request.content_type, body)
            case "delete":
                status = writes.delete(self.store, resource, target)
                self.changed()
                return _json(status)
            case _:
                raise not_allowed()
        self.changed()
        return _document(record, resource, code)

    # -- lists ------------------------------------------------------------------------------

    async def _list(
        self, request: web.BaseRequest, resource: Resource, asked: Options
    ) -> web.StreamResponse:
        await self._fresh(asked.needed)
        page = list_page(self.collection(resource.plural), asked, self.store.version)
        pieces = page.encode(resource)
        if asked.drops_managed_fields:
            pieces = [drop_managed_fields(b"".join(pieces))]
        speed = self.faults.list_speed(resource.plural)
        if speed is not None:
            return await self._slowly(request, b"".join(pieces), speed)
        body, headers = b"".join(pieces), {}
        zips = self.settings.gzip and "gzip" in request.headers.get("Accept-Encoding", "")
        if zips and len(body) > _GZIP_FROM:
            body = gzip.compress(body, _GZIP_LEVEL)
            headers["Content-Encoding"] = "gzip"
        response = web.Response(body=body, content_type=_JSON, headers=headers)
        response.enable_chunked_encoding()
        return response

    async def _fresh(self, version: int) -> None:
        """Wait until a version is there. Raises StatusError, 504, when it does not come."""
        try:
            async with asyncio.timeout(self.settings.fresh_wait_s):
                while self.store.version < version:
                    await self._changed.wait()
        except TimeoutError:
            raise too_large_version(version, self.store.version) from None

    async def _slowly(
        self, request: web.BaseRequest, body: bytes, speed: float
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": _JSON})
        response.content_length = len(body)
        await response.prepare(request)
        size = max(1, round(speed / _PULSES_PER_S))
        for start in range(0, len(body), size):
            await self.faults.gate.wait()
            await response.write(body[start : start + size])
            await asyncio.sleep(size / speed)
        return response

    # -- watches ----------------------------------------------------------------------------

    async def _watch(
        self, request: web.BaseRequest, resource: Resource, asked: Options, record: Request
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": _JSON})
        response.enable_chunked_encoding()
        collection = self.collection(resource.plural)
        error = await self._watch_error(collection, asked)
        if error is not None:
            await response.prepare(request)
            await response.write(line("ERROR", msgspec.json.encode(error.body)))
            return response
        stream = Stream(collection, asked, self.store.version, self.faults.gate)
        self.streams.add(stream)
        try:
            await response.prepare(request)
            record.code = 200
            how = await stream.run(response, self.store, self.settings.bookmark_s)
        finally:
            stream.close()
            self.streams.discard(stream)
        transport = request.transport
        if transport is not None and how == "abort":
            abort(transport)
        elif transport is not None and how == "cut":
            transport.close()
        return response

    async def _watch_error(self, collection: Collection, asked: Options) -> StatusError | None:
        """Return why a watch cannot begin: by then the answer is 200, so an event says it."""
        if asked.initial and asked.bookmarks and not self.settings.etcd_progress:
            return StatusError(500, _NO_PROGRESS)
        try:
            await self._fresh(asked.needed)
        except StatusError as error:
            return error
        version = int(asked.version or 0)
        if not asked.initial and 0 < version < collection.floor:
            return StatusError(410, f"too old resource version: {version} ({collection.floor})")
        return None


def _document(record: Record, resource: Resource, code: int = 200) -> web.Response:
    return web.Response(body=record.document(resource), status=code, content_type=_JSON)


def _json(content: Any, code: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(content), status=code, content_type=_JSON)


def _refusal(error: StatusError) -> web.Response:
    if error.code == 429:  # the one that is no Status: it comes from before the API
        made = web.Response(text=f"{TOO_MANY}\n", status=429)
    else:
        made = _json(error.body, error.code)
    if error.retry_after_s:
        made.headers["Retry-After"] = str(error.retry_after_s)
    return made
