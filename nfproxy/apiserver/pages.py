"""
A list in pages: what works with every API server.
"""

from __future__ import annotations

import asyncio

from nfproxy.apiserver.connection import Connection, Request
from nfproxy.apiserver.failures import RequestError
from nfproxy.apiserver.feed import Feed
from nfproxy.apiserver.resources import Resource
from nfproxy.kube.watch import GONE, Status, read_page

SLICE = 100  # objects told before others get their turn: some milliseconds
_PAGE = "500"  # objects, as client-go asks for


async def list_in_pages(connection: Connection, resource: Resource, sink: Feed) -> tuple[str, int]:
    """
    Tell a sink of all objects; return the version of the list and their number.

    The caller tells of the end. A list that takes too long expires between two pages (410). The
    token the API server gives along then goes on at a later version, with gaps; so the list
    begins anew, at last in one piece. Raises RequestError and StreamError.
    """
    for limit in (_PAGE, _PAGE):
        try:
            return await _list(connection, resource, sink, limit)
        except RequestError as error:
            if not error.status.expired:
                raise
    return await _list(connection, resource, sink, "")


async def _list(
    connection: Connection, resource: Resource, sink: Feed, limit: str
) -> tuple[str, int]:
    query = dict(resource.selectors)
    if limit:
        query["limit"] = limit
    version, told = "", 0
    while True:
        counted = "continue" not in query
        page = read_page(await connection.read(Request(resource.path, query, counted=counted)))
        if not version:
            sink.begin_list()
        elif page.version != version:
            raise RequestError("a list changed between its pages", Status(code=GONE))
        version = page.version
        for data in page.items:
            sink.put(data)
            told += 1
            if told % SLICE == 0:
                await asyncio.sleep(0)
        if not page.rest:
            return version, told
        query["continue"] = page.rest
