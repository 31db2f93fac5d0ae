"""
The web page for people on this node: Services with what is wrong, one Service, changes, status.

Each address answers with HTML, and with the same as JSON where the client prefers that. What a
page shows is computed and rendered away from the event loop, one page at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol
from urllib.parse import urlencode

import msgspec
from aiohttp.web_request import BaseRequest
from aiohttp.web_response import Response

from nfproxy.errors import InputError
from nfproxy.insight.changerecord import CHANGES_PATH, ChangeRecords
from nfproxy.insight.daemonstatus import STATUS_PATH
from nfproxy.insight.explanation import Explanation
from nfproxy.insight.overview import Overview
from nfproxy.insight.question import ServiceQuestion, parse_question
from nfproxy.insight.servicelist import LONGEST_TEXT, Choice, service_list
from nfproxy.insight.statusscreen import NODE_PATH, StatusScreen
from nfproxy.servers.html import HTML, html_answer, render
from nfproxy.servers.pages import JSON, Page, answer, error
from nfproxy.servers.pagetexts import (
    change_rows,
    list_values,
    page_head,
    service_values,
)

_NOT_YET = "nothing is programmed yet; try again in a moment"
_LONGEST_NUMBER = 9
_METHODS = ("GET", "HEAD")


class Insight(Protocol):
    """Answers about Services; None before anything is programmed."""

    async def overview(self) -> Overview | None:
        """Return all Service ports."""

    async def explain(self, question: ServiceQuestion) -> Explanation | None:
        """Return why a Service works, or not."""


class WebPages:
    """Makes the pages, one at a time."""

    def __init__(
        self,
        insight: Insight,
        status: Callable[[], StatusScreen],
        changes: Callable[[], ChangeRecords],
        machine: Mapping[str, Page],
    ) -> None:
        """
        Make nothing yet.

        `status` and `changes` run in threads. `machine` has the pages of JSON that share a path
        with one of these.
        """
        self._insight = insight
        self._read_status = status
        self._read_changes = changes
        self._machine = machine
        self._one_at_a_time = asyncio.Lock()

    def pages(self) -> dict[str, Page]:
        """Return the pages by path, those of `machine` among them."""
        found = dict(self._machine)
        found["/"] = found["/services"] = _read_only(self._list)
        found["/problems"] = _read_only(self._problems)
        found["/service"] = _read_only(self._service)
        found[CHANGES_PATH] = self._or_json(CHANGES_PATH, self._changes)
        found[STATUS_PATH] = self._or_json(STATUS_PATH, self._status)
        found[NODE_PATH] = self._or_json(NODE_PATH, self._status)
        return found

    def _or_json(self, path: str, page: Page) -> Page:
        """Return the page for browsers, and what `machine` has at the path for all others."""
        machine = self._machine[path]

        async def chosen(request: BaseRequest) -> Response:
            return await (page if _prefers(request, JSON, HTML) == HTML else machine)(request)

        return _read_only(chosen)

    # --- the pages -----------------------------------------------------------------------

    async def _list(self, request: BaseRequest) -> Response:
        return await self._chosen(request, only_problems=request.query.get("problems", "") == "1")

    async def _problems(self, request: BaseRequest) -> Response:
        return await self._chosen(request, only_problems=True)

    async def _chosen(self, request: BaseRequest, *, only_problems: bool) -> Response:
        query = request.query
        number = query.get("page", "1")
        if not (number.isascii() and number.isdigit() and len(number) <= _LONGEST_NUMBER):
            return await self._message(request, "page: not a number", 400)
        choice = Choice(
            query.get("q", "")[:LONGEST_TEXT],
            query.get("ns", "")[:LONGEST_TEXT],
            only_problems,
            int(number),
        )
        found = await self._insight.overview()
        if found is None:
            return await self._message(request, _NOT_YET, 503)
        shown = await asyncio.to_thread(service_list, found, choice)
        if _prefers(request, HTML, JSON) == JSON:
            return answer(await asyncio.to_thread(msgspec.json.encode, shown), JSON)

        def link(page: int) -> str:
            asked = {"q": choice.text, "ns": choice.namespace}
            asked |= {"problems": "1" if only_problems else "", "page": str(page)}
            return "/?" + urlencode({name: value for name, value in asked.items() if value})

        values = {"searched": choice.text, "link": link, **list_values(shown, choice)}
        here = "Problems" if only_problems else "Services"
        return await self._html("list.html.j2", here, values, overview=found)

    async def _service(self, request: BaseRequest) -> Response:
        try:
            question = parse_question(request.query.get("name", ""))
        except InputError as failure:
            return await self._message(request, str(failure), 400)
        if not isinstance(question, ServiceQuestion):
            return await self._message(request, "name: not the name of a Service", 400)
        found = await self._insight.explain(question)
        if found is None:
            return await self._message(request, _NOT_YET, 503)
        code = 200 if found.service or found.ports else 404
        if _prefers(request, HTML, JSON) == JSON:
            return answer(await asyncio.to_thread(msgspec.json.encode, found), JSON, code)
        changes = await asyncio.to_thread(self._read_changes)
        values = service_values(found, question, changes.records)
        title = str(question)
        return await self._html("service.html.j2", title, values, code=code)

    async def _changes(self, request: BaseRequest) -> Response:
        changes = await asyncio.to_thread(self._read_changes)
        values = {"changes": change_rows(changes.records), "forgotten": changes.forgotten}
        return await self._html("changes.html.j2", "Changes", values)

    async def _status(self, request: BaseRequest) -> Response:
        return await self._html("status.html.j2", "Status", {})

    # --- around them ---------------------------------------------------------------------

    async def _message(self, request: BaseRequest, message: str, code: int) -> Response:
        if _prefers(request, HTML, JSON) == JSON:
            return error(message, code)
        values = {"message": message}
        return await self._html("message.html.j2", "nfproxy", values, code=code)

    async def _html(
        self,
        template: str,
        here: str,
        values: Mapping[str, object],
        *,
        code: int = 200,
        overview: Overview | None = None,
    ) -> Response:
        """Return a page with its head; `here` is its title, and names its tab."""

        def made() -> bytes:
            screen = self._read_status()
            head = page_head(screen, overview)
            return render(template, here=here, head=head, screen=screen, **values)

        async with self._one_at_a_time:
            return html_answer(await asyncio.to_thread(made), code)


def _read_only(page: Page) -> Page:
    """Return a page that only answers methods that read."""

    async def answered(request: BaseRequest) -> Response:
        if request.method not in _METHODS:
            refused = error("405 method not allowed", 405)
            refused.headers["Allow"] = ", ".join(_METHODS)
            return refused
        return await page(request)

    return answered


def _prefers(request: BaseRequest, *offered: str) -> str:
    """Return which of some content types a request prefers; the first where it does not say."""
    weights = {}
    for part in request.headers.get("Accept", "*/*").split(","):
        name, *parameters = part.replace(" ", "").lower().split(";")
        weight = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        try:
            weights[name] = float(weight)
        except ValueError:
            weights[name] = 0.0
    anything = weights.get("*/*", 0.0)
    return max(offered, key=lambda kind: weights.get(kind, anything))
