"""
What a page is: a function from a request to a response.

Answers are as Go's net/http gives them. Paths match exactly.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

Page = Callable[[web.BaseRequest], Awaitable[web.Response]]

TEXT = "text/plain; charset=utf-8"
JSON = "application/json"


def answer(
    body: bytes, content_type: str, code: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return a response whose body browsers must not guess the type of."""
    fixed = {
        "Content-Type": content_type,
        "X-Content-Type-Options": "nosniff",
        "Server": "nfproxy",  # else aiohttp tells its own version and Python's
    }
    return web.Response(body=body, status=code, headers={**fixed, **(headers or {})})


def error(message: str, code: int) -> web.Response:
    """Return an error as Go's ``http.Error`` writes it."""
    return answer(f"{message}\n".encode(), TEXT, code)


def by_path(pages: Mapping[str, Page]) -> Page:
    """Return the page that looks for others by path; any other path gives 404."""

    async def page(request: web.BaseRequest) -> web.Response:
        found = pages.get(request.path)
        return await found(request) if found else error("404 page not found", 404)

    return page
