"""The web page in a real browser: what it shows, and what the browser refuses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest
from aiohttp import web
from support.browser import Tab, browser, chromium
from support.processes.pageservers import serving
from support.webpages import CHANGES, Shop, shop_pages

from nfproxy.insight.changerecord import ChangeRecord
from nfproxy.insight.diagnosis import Code, Diagnosis, Severity
from nfproxy.insight.explanation import Explanation
from nfproxy.insight.overview import Overview
from nfproxy.insight.question import ServiceQuestion
from nfproxy.servers.html import html_answer
from nfproxy.servers.pages import Page, by_path

pytestmark = pytest.mark.skipif(
    not chromium(), reason="not looked at in a browser: apt-get install chromium"
)

PATHS = ("/", "/problems", "/service?name=shop/web", "/service?name=shop/catalog")
OTHER_PATHS = ("/changes", "/status", "/service?name=shop/wbe", "/?q=nothing")
SCRIPT = "<script>document.title='run'</script><img src=x onerror=\"document.title='run'\">"
WIDE = "document.documentElement.scrollWidth - window.innerWidth"
BACKGROUND = "getComputedStyle(document.body).backgroundColor"


class Hostile(Shop):
    """Has markup in each text that an object may put there."""

    async def overview(self) -> Overview | None:
        found = await super().overview()
        assert found is not None
        rows = tuple(
            msgspec.structs.replace(row, because=SCRIPT, addresses=(SCRIPT, SCRIPT))
            for row in found.services
        )
        return msgspec.structs.replace(found, services=rows)

    async def explain(self, question: ServiceQuestion) -> Explanation | None:
        found = await super().explain(question)
        assert found is not None
        texts = (SCRIPT, (SCRIPT,), (f'"><b>{SCRIPT}',))
        finding = Diagnosis(Severity.FAIL, Code.INVALID_FIELD, *texts)
        return msgspec.structs.replace(found, title=SCRIPT, findings=(finding,))


def run(work: Callable[[Tab, str], Awaitable[None]], pages: dict[str, Page] | None = None) -> None:
    """Do something in a browser, with the address of the pages."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[tuple[Tab, str]]:
        async with serving(by_path(pages or shop_pages())) as (host, port), browser() as tab:
            yield tab, f"http://{host}:{port}"

    async def done() -> None:
        async with opened() as (tab, place):
            await work(tab, place)

    asyncio.run(done())


def test_the_browser_refuses_nothing_and_loads_nothing_else() -> None:
    """The style is applied, at the width of a screen and of a telephone, light and dark."""

    async def work(tab: Tab, place: str) -> None:
        seen = {}
        for width in (1200, 375):
            for scheme in ("light", "dark"):
                await tab.look(width, 800, scheme)
                for path in (*PATHS, *OTHER_PATHS):
                    await tab.open(place + path)
                    seen[scheme] = await tab.value(BACKGROUND)
                    assert await tab.value(WIDE) <= 0, (path, width)
        assert seen == {"light": "rgb(255, 255, 255)", "dark": "rgb(13, 17, 23)"}
        said = [line for line in tab.said if "404" not in line]  # of the Service that is not there
        assert said == []
        others = {url for url in tab.asked if not url.startswith(f"{place}/")}
        assert others <= {"about:blank"}
        assert not [url for url in tab.asked if "favicon" not in url and "." in url.split("/")[-1]]

    run(work)


def test_a_reader_finds_a_service_and_reads_why() -> None:
    """By typing into the form, and following links."""

    async def work(tab: Tab, place: str) -> None:
        await tab.look(1200, 800, "light")
        await tab.open(place)
        await tab.value("document.querySelector('input').value = 'catalog'")
        await tab.follow("document.querySelector('button').click()")
        rows = await tab.value("document.querySelectorAll('tbody tr').length")
        assert (rows, await tab.value("location.search")) == (1, "?q=catalog")

        await tab.follow("document.querySelector('tbody a').click()")
        assert "REFUSES every connection" in await tab.value(
            "document.querySelector('h1').innerText"
        )
        assert "PortNotInSlices" in await tab.value("document.body.innerText")

        await tab.follow("document.querySelector('nav a:nth-of-type(2)').click()")
        assert await tab.value("document.querySelector('[aria-current]').innerText") == "Problems 8"
        assert await tab.value("document.querySelectorAll('tbody tr').length") == 8
        assert tab.said == []

    run(work)


def test_markup_in_names_and_messages_stays_text() -> None:
    """The page has no script, and what looks like one is read as it was written."""
    record = ChangeRecord(number=1, at="2026-11-30T07:45:49Z", what=SCRIPT, by=SCRIPT)
    changes = msgspec.structs.replace(CHANGES, records=[record])

    async def work(tab: Tab, place: str) -> None:
        for path in (*PATHS, "/changes", "/?q=%3Cscript%3Edocument.title='run'%3C/script%3E"):
            await tab.open(place + path)
            assert await tab.value("document.querySelectorAll('script, img').length") == 0
            assert await tab.value("document.title") != "run"
            assert "<script>document.title='run'</script>" in await tab.value(
                "document.body.innerText + document.querySelector('input').value"
            )
        assert tab.said == []

    run(work, shop_pages(Hostile(), changes=changes))


def test_a_script_would_be_refused() -> None:
    """Were one in the page: by the browser, because of the header. So silence above says much."""

    async def hostile(_: web.BaseRequest) -> web.Response:
        body = f"<!DOCTYPE html><title>page</title>{SCRIPT}<style>b {{ color: red }}</style>"
        return html_answer(body.encode())

    async def work(tab: Tab, place: str) -> None:
        await tab.open(place)
        assert await tab.value("document.title") == "page"
        said = "\n".join(tab.said)
        assert "script" in said
        assert "style" in said
        assert "image" in said or "img" in said

    run(work, {"/": hostile})


class Large(Shop):
    """Ten thousand Service ports, with the problems of the shop, and some long names."""

    async def overview(self) -> Overview | None:
        found = await super().overview()
        assert found is not None
        some = found.services
        rows = tuple(
            msgspec.structs.replace(
                some[number % len(some)], name=f"s{number:05}" + "-and-more" * (number % 7)
            )
            for number in range(10_000)
        )
        problems = sum(row.is_problem for row in rows)
        return msgspec.structs.replace(found, services=rows, total=len(rows), problems=problems)


def test_ten_thousand_services_are_read_by_pages() -> None:
    """On a telephone, too: 200 rows, problems first, and one of them found by its name."""

    async def work(tab: Tab, place: str) -> None:
        count = "document.querySelectorAll('tbody tr').length"
        for width in (1200, 375):
            await tab.look(width, 800, "dark")
            for path in ("/", "/?page=2", "/?page=50", "/problems"):
                await tab.open(place + path)
                assert await tab.value(count) == 200, path
                assert await tab.value(WIDE) <= 0, (path, width)
            await tab.open(f"{place}/?q=s09999")
            assert await tab.value(count) == 1
        await tab.open(place)
        assert "✓" not in await tab.value("document.querySelector('tbody').innerText")
        assert tab.said == []

    run(work, shop_pages(Large()))
