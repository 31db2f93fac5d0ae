"""The web page, as a client on this node gets it."""

from __future__ import annotations

import asyncio
import html
import json
import re
from html.parser import HTMLParser
from urllib.parse import quote

import msgspec
import pytest
from support.client.http11 import Reply, ask
from support.insight import explained
from support.processes.pageservers import serving
from support.webpages import CHANGES, STATUS, Shop, shop_pages

from nfproxy.insight.changerecord import CHANGES_PATH, ChangeRecord, ChangeRecords
from nfproxy.insight.daemonstatus import STATUS_PATH
from nfproxy.insight.diagnosis import Code, Diagnosis, Severity
from nfproxy.insight.explanation import Explanation
from nfproxy.insight.question import ServiceQuestion
from nfproxy.insight.statusscreen import NODE_PATH, Mark, StatusRow, StatusScreen
from nfproxy.servers.pages import by_path
from nfproxy.servers.webpages import Insight

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
SCRIPT = "<script>alert(1)</script>"
HOSTILE = ChangeRecord(
    number=1,
    at="2026-11-30T07:45:49.529Z",
    service="shop/web",
    what=f"table ip nfproxy deleted {SCRIPT}",
    by=f"nft{SCRIPT} (pid 1924)",
    added=(SCRIPT,),
)


class Tags(HTMLParser):
    """Collects a page's tags, and that each is closed."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.links: list[str] = []
        self.feed(page.decode())
        assert not self.open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.links += [value or "" for name, value in attributes if name == "href"]
        if tag not in ("meta", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def get(
    path: str,
    method: str = "GET",
    insight: Insight | None = None,
    status: StatusScreen = STATUS,
    changes: ChangeRecords = CHANGES,
    **headers: str,
) -> Reply:
    """Ask the pages of a shop."""

    async def asked() -> Reply:
        async with serving(by_path(shop_pages(insight, status, changes))) as place:
            return await ask(place, path, method, host="localhost", **headers)

    return asyncio.run(asked())


def text(page: bytes) -> str:
    """Return what a reader sees."""
    plain = re.sub("<style>.*</style>", "", page.decode(), flags=re.DOTALL)
    return " ".join(html.unescape(re.sub("<[^>]*>", " ", plain)).split())


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/services", "/problems", "/?q=web&ns=shop&page=1", "/changes", "/status", "/node"),
        *("/service?name=shop/web", "/service?name=shop/catalog", "/service?name=shop/search"),
    ],
)
def test_each_page_is_html_with_a_strict_policy(path: str) -> None:
    """Well-formed, without script, and with links to pages that exist."""
    reply = get(path, accept=BROWSER)

    assert (reply.code, reply.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert reply.headers["content-security-policy"].startswith("default-src 'none'; style-src 'sha")
    tags = Tags(reply.body)
    assert not tags.seen & {"script", "link", "img", "iframe", "object"}
    for link in tags.links:
        assert link.startswith("/")
        assert get(link, accept=BROWSER).code == 200, link


def test_the_head_says_how_the_node_is() -> None:
    """And what other processes did within a day."""
    found = text(get("/").body)

    assert "nfproxy · node-1" in found
    assert "✓ in step since 07:45:49Z (14 s) · 0.1.0 · up 3 d 3 h" in found
    assert "changed by others : 1 time in the last day, last by nft (pid 1924)" in found
    assert "5 refuse everything" not in found  # the rows below say it


def test_trouble_is_at_the_top() -> None:
    """Of each page."""
    row = StatusRow(Mark.FAIL, "programmed", "tables are gone", "the log")
    status = msgspec.structs.replace(STATUS, since="", rows=(row,))
    found = text(get("/changes", status=status, accept=BROWSER).body)

    assert "✗ not in step" in found
    assert "programmed : tables are gone" in found


def test_problems_come_first_with_their_reason() -> None:
    """And a link to the page of their Service."""
    page = get("/").body.decode()

    assert page.index("shop/catalog:http") < page.index("shop/web:http")
    assert "slice&#39;s port is &#39;web&#39;, not &#39;http&#39;" in page
    assert 'href="/service?name=shop/catalog"' in page


def test_a_service_page_has_verdict_reasons_tables_changes_and_commands() -> None:
    """What explain prints, and what to type next."""
    found = text(get("/service?name=shop/web").body)

    assert "shop/web:http" in found
    assert "10.96.0.10:80/tcp" in found
    assert "10.244.1.11:8080" in found
    assert "+ 10.244.2.12:8080" in found
    assert "50 %" in found
    assert "nfproxy explain shop/web nfproxy trace shop/web" in found
    assert "PortNotInSlices" in text(get("/service?name=shop/catalog").body)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ServiceList"),
        ("/?problems=1", "ServiceList"),
        ("/service?name=shop/web", "Explanation"),
        (STATUS_PATH, "X"),
        (NODE_PATH, "X"),
        (CHANGES_PATH, "X"),
    ],
)
def test_the_same_is_there_as_json(path: str, kind: str) -> None:
    """For those who ask for it; and by default where commands read it."""
    reply = get(path, accept="application/json")
    default = get(path).headers["content-type"]

    assert reply.headers["content-type"] == "application/json"
    assert json.loads(reply.body)["kind"] == kind
    assert default == ("application/json" if kind == "X" else "text/html; charset=utf-8")


def test_texts_of_objects_and_processes_stay_text() -> None:
    """On each page that shows them, and in what a reader typed."""

    class Hostile(Shop):
        async def explain(self, question: ServiceQuestion) -> Explanation | None:
            finding = Diagnosis(
                *(Severity.FAIL, Code.INVALID_FIELD, SCRIPT, (SCRIPT,), (SCRIPT,)), brief=SCRIPT
            )
            found = explained(str(question), self.seen)
            return msgspec.structs.replace(found, title=SCRIPT, findings=(finding,))

    insight, changes = Hostile(), ChangeRecords(records=[HOSTILE])
    for path in (f"/?q={SCRIPT}", f'/?ns="><b>{SCRIPT}', "/changes", "/service?name=shop/web"):
        asked = quote(path, safe="/?=")
        body = get(asked, insight=insight, changes=changes, accept=BROWSER).body
        Tags(body)
        assert b"<script" not in body
        assert b"&lt;script&gt;" in body


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/?page=x", 400),
        ("/?page=-1", 400),
        ("/?page=99999999999", 400),
        ("/?page=7", 200),
        ("/service", 400),
        ("/service?name=10.96.0.10", 400),
        ("/service?name=a/b/c", 400),
        ("/service?name=%1b[31m", 400),
        ("/service?name=shop/wbe", 404),
        ("/nothing", 404),
    ],
)
def test_what_cannot_be_shown_says_so(path: str, code: int) -> None:
    """Without control characters, as HTML and as text."""
    for accept in (BROWSER, "application/json"):
        reply = get(path, accept=accept)
        assert reply.code == code
        assert b"\x1b" not in reply.body


def test_an_unknown_service_names_near_ones() -> None:
    """As explain does."""
    assert "is it shop/web?" in text(get("/service?name=shop/wbe").body)


def test_before_anything_is_programmed() -> None:
    """Services are not known; the other pages are there."""
    starting = Shop()
    starting.is_ready = False

    assert get("/", insight=starting).code == 503
    assert get("/service?name=shop/web", insight=starting).code == 503
    assert get("/changes", insight=starting, accept=BROWSER).code == 200


@pytest.mark.parametrize("path", ["/", "/service?name=shop/web", "/changes", "/status"])
def test_pages_only_read(path: str) -> None:
    """HEAD gives the headers, other methods nothing."""
    head = get(path, "HEAD", accept=BROWSER)

    assert (head.code, head.body) == (200, b"")
    assert head.headers["content-type"] == "text/html; charset=utf-8"
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        refused = get(path, method, accept=BROWSER)
        assert (refused.code, refused.headers["allow"]) == (405, "GET, HEAD")


def test_an_unknown_path_lists_the_pages() -> None:
    """What a person would try next."""
    found = get("/help").body.decode().split()

    assert {"/", "/service", "/changes", "/status"} <= set(found)
