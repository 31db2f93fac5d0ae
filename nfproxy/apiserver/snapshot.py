"""
Some objects of an API server, read once: for commands that ask about one Service.

The daemon's source lists everything and follows it. Here a question about one Service costs four
small requests, however large the cluster is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from urllib.parse import quote

import msgspec

from nfproxy.apiserver.connection import Connection
from nfproxy.apiserver.transport import WITHOUT_MANAGED_FIELDS, ApiRequest
from nfproxy.kube.apistatus import GONE, RequestError, Status
from nfproxy.kube.identity import Kind, identify
from nfproxy.kube.listbounds import BODY_FLOOR_BYTES, ListBounds
from nfproxy.kube.pagedlist import PagedList
from nfproxy.kube.resources import Resource, name_selector, resources
from nfproxy.kube.watch import read_page
from nfproxy.model.service import ObjectName

OnRaw = Callable[[Kind, msgspec.Raw], None]

_LABEL = "kubernetes.io/service-name"
_ANSWER_S = 30.0
_NAMES = "500"  # of Services, to find near ones


class SnapshotReader:
    """
    Reads objects and gives each to `on_object`. Raises RequestError where they cannot be read.

    What nfproxy can do without is left out; `missing` then says what, and why, a line each.
    `version` is the resourceVersion of the last list.
    """

    def __init__(self, connection: Connection, on_object: OnRaw) -> None:
        """Prepare; nothing is asked."""
        self._connection = connection
        self._on_object = on_object
        self._resources = {one.kind: one for one in resources("")}
        self.missing: list[str] = []
        self.version = ""

    async def service(self, name: ObjectName) -> None:
        """Read a Service, if there is one, and its EndpointSlices."""
        # Lists of one object: the daemon's service account may list, and not get.
        await asyncio.gather(
            self._list(self._in_namespace(Kind.SERVICE, name.namespace, _named(name.name))),
            self._list(
                self._in_namespace(
                    Kind.ENDPOINT_SLICE,
                    name.namespace,
                    {"labelSelector": f"{_LABEL}={name.name}"},
                )
            ),
        )

    async def everything(self) -> None:
        """Read all Services and EndpointSlices, also those that nfproxy does not proxy."""
        kinds = (Kind.SERVICE, Kind.ENDPOINT_SLICE)
        await asyncio.gather(*(self._list(self._selecting(kind, {})) for kind in kinds))

    async def surroundings(self, node_name: str) -> None:
        """Read a Node, all Nodes for "", and the ServiceCIDRs, as far as they may be read."""
        nodes = self._selecting(Kind.NODE, _named(node_name) if node_name else {})
        answers = await asyncio.gather(
            self._list(nodes),
            self._list(self._resources[Kind.SERVICE_CIDR]),
            return_exceptions=True,
        )
        words = ("Nodes: zones, addresses and podCIDRs", "ServiceCIDRs: unallocated addresses")
        for what, answer in zip(words, answers, strict=True):
            if isinstance(answer, RequestError):
                self.missing.append(f"{what} ({answer.what})")
            elif isinstance(answer, BaseException):
                raise answer

    async def pod(self, name: ObjectName) -> bytes | None:
        """Return a pod as JSON, None where there is none or it may not be read."""
        where = (quote(part, safe="") for part in name)
        try:
            return await self._read("/api/v1/namespaces/{}/pods/{}".format(*where), {})
        except RequestError as error:
            if error.status.code not in (404, 403):
                raise
            self.missing.append(f"pod {name} ({error.what})")
            return None

    async def near_services(self, name: ObjectName) -> tuple[ObjectName, ...]:
        """Return Services of this name in other namespaces, and those of its namespace."""
        asked = (
            self._selecting(Kind.SERVICE, _named(name.name)),
            self._in_namespace(Kind.SERVICE, name.namespace, {}),
        )
        answers = await asyncio.gather(*map(self._names, asked))
        return tuple(found for answer in answers for found in answer)

    def _selecting(self, kind: Kind, selectors: Mapping[str, str]) -> Resource:
        return msgspec.structs.replace(self._resources[kind], selectors=selectors)

    def _in_namespace(self, kind: Kind, namespace: str, selectors: Mapping[str, str]) -> Resource:
        resource = self._selecting(kind, selectors)
        place = f"/namespaces/{quote(namespace, safe='')}/{resource.plural}"
        path = resource.path.removesuffix(f"/{resource.plural}") + place
        return msgspec.structs.replace(resource, path=path)

    async def _names(self, resource: Resource) -> list[ObjectName]:
        """Return the names of the first objects; none where they may not be read."""
        query = {**resource.selectors, "limit": _NAMES}
        try:
            page = read_page(await self._read(resource.path, query))
        except RequestError:
            return []
        names = (identify(item).object_name(resource.kind) for item in page.items)
        return [name for name in names if name is not None]

    async def _list(self, resource: Resource) -> None:
        """Read a list, page by page; the objects of a list that expired come again."""
        pages, bounds = PagedList(resource.selectors), ListBounds()
        while True:
            request = pages.request(bounds.body_bytes)
            try:
                body = await self._read(resource.path, request.query, request.is_first)
                page = read_page(body)
                if not pages.fits(page):
                    raise RequestError("a list changed between pages", status=Status(code=GONE))
            except RequestError as error:
                if error.status.is_expired and pages.start_over():
                    continue
                raise
            bounds.add(len(body))
            pages.add(page, len(body))
            for item in page.items:
                self._on_object(resource.kind, item)
            if not page.continue_token:
                self.version = page.version
                return

    async def _read(self, path: str, query: Mapping[str, str], is_first: bool = True) -> bytes:
        request = ApiRequest(
            path,
            query,
            accept=WITHOUT_MANAGED_FIELDS,
            head_s=_ANSWER_S,
            silence_s=_ANSWER_S,
            max_bytes=BODY_FLOOR_BYTES,
            counted=is_first,
        )
        return await self._connection.read(request)


def _named(name: str) -> Mapping[str, str]:
    return {"fieldSelector": name_selector(name)}
