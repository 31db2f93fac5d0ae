"""What the daemon gives commands about Services: from a planner that changes meanwhile."""

import asyncio
import json
import threading
from typing import Any

import msgspec
import pytest
from msgspec import structs
from support.client.http11 import ask
from support.insight import shop, sight
from support.processes.pageservers import serving

from nfproxy.daemon import insightpages
from nfproxy.daemon.insightpages import InsightPages, LookAtNode
from nfproxy.errors import DataplaneError
from nfproxy.insight.explanation import Explanation
from nfproxy.insight.nodeobjects import OBJECTS_PATH, SERVICES_PATH, NodeObjects
from nfproxy.insight.overview import Overview
from nfproxy.insight.question import ServiceQuestion
from nfproxy.insight.sight import Sight
from nfproxy.model.changes import Changes
from nfproxy.model.service import ObjectName
from nfproxy.plan.planner import Planner
from nfproxy.servers.pages import by_path


def made(planner: Planner | None) -> InsightPages:
    return InsightPages(lambda: planner, tuple, lambda: True)


def test_before_anything_is_planned_there_is_no_answer() -> None:
    """503, as a probe would get."""

    async def work() -> list[int]:
        async with serving(by_path(made(None).pages())) as place:
            paths = (SERVICES_PATH, f"{OBJECTS_PATH}?what=shop/web")
            return [(await ask(place, path)).code for path in paths]

    assert asyncio.run(work()) == [503, 503]


def test_services_and_the_objects_of_one() -> None:
    """In forms that commands decode."""

    async def work() -> tuple[Overview, NodeObjects]:
        async with serving(by_path(made(sight(*shop()).planner).pages())) as place:
            listed = await ask(place, SERVICES_PATH)
            objects = await ask(place, f"{OBJECTS_PATH}?what=shop/web")
            return (
                msgspec.json.decode(listed.body, type=Overview),
                msgspec.json.decode(objects.body, type=NodeObjects),
            )

    listed, objects = asyncio.run(work())
    assert (listed.total, listed.problems) == (11, 7)
    assert [str(one.name) for one in objects.services] == ["shop/web"]


@pytest.mark.parametrize("what", ["", "a/b/c", "10.96.0.1:x", "%1b[31m"])
def test_a_bad_question_is_400(what: str) -> None:
    """With what to write."""

    async def work() -> tuple[int, str]:
        async with serving(by_path(made(sight(*shop()).planner).pages())) as place:
            reply = await ask(place, f"{OBJECTS_PATH}?what={what}")
            return reply.code, reply.body.decode()

    code, body = asyncio.run(work())
    assert code == 400
    assert "NAMESPACE/NAME" in body
    assert "\x1b" not in body


def test_a_list_is_made_once_for_many_who_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    """It costs a tenth of a second of processor time with 10,000 Services."""
    made_lists = []
    whole = insightpages._all_rows

    def counted(seen: Sight, *rest: Any) -> Overview:
        made_lists.append(1)
        return whole(seen, *rest)

    monkeypatch.setattr(insightpages, "_all_rows", counted)

    async def work() -> None:
        async with serving(by_path(made(sight(*shop()).planner).pages())) as place:
            await asyncio.gather(*(ask(place, SERVICES_PATH) for _ in range(5)))

    asyncio.run(work())
    assert made_lists == [1]


def test_a_planner_that_changes_meanwhile_does_no_harm() -> None:
    """The worker thread plans while threads of pages look things up."""
    seen = sight(*shop())
    planner, services = seen.planner, dict(seen.planner.services)
    stop, pages = threading.Event(), made(seen.planner)

    def change() -> None:
        while not stop.is_set():
            for name, one in services.items():
                planner.apply(Changes(services={name: None}))
                planner.apply(Changes(services={name: one}))

    async def work() -> list[int]:
        async with serving(by_path(pages.pages())) as place:
            codes = []
            for _ in range(15):
                pages._made = None
                codes.append((await ask(place, SERVICES_PATH)).code)
                for what in ("team-b/mail2", "203.0.113.120", "10.244.1.11"):
                    reply = await ask(place, f"{OBJECTS_PATH}?what={what}")
                    codes.append(reply.code)
                    json.loads(reply.body)
            return codes

    worker = threading.Thread(target=change)
    worker.start()
    try:
        assert set(asyncio.run(work())) == {200}
    finally:
        stop.set()
        worker.join()


# --- what the node knows ----------------------------------------------------------------------

WEB = ServiceQuestion(ObjectName("shop", "web"))


def looking(look: LookAtNode) -> InsightPages:
    planner = sight(*shop()).planner
    return InsightPages(lambda: planner, tuple, lambda: True, look)


def test_an_explanation_has_what_the_node_knows_once_for_many_who_ask() -> None:
    """In a thread; who loads the page again and again lists connections once."""
    threads = []

    def look(found: Explanation, planner: Planner) -> Explanation:
        threads.append(threading.current_thread())
        return structs.replace(found, seen=structs.replace(found.seen, kernel=True))

    async def work() -> list[Explanation | None]:
        pages = looking(look)
        return await asyncio.gather(*(pages.explain(WEB) for _ in range(5)))

    found = asyncio.run(work())
    assert {one.seen.kernel for one in found if one} == {True}
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()


def test_what_cannot_be_read_of_the_node_is_named() -> None:
    """The rest is shown all the same."""

    def look(found: Explanation, planner: Planner) -> Explanation:
        raise DataplaneError("the kernel refuses", "")

    found = asyncio.run(looking(look).explain(WEB))
    assert found is not None
    assert found.ports
    assert found.seen.missing == ("kernel, connections and routes: the kernel refuses",)


def test_lists_do_not_wait_for_the_node() -> None:
    """It may take seconds, where a change is on its way."""
    listed = threading.Event()

    def look(found: Explanation, planner: Planner) -> Explanation:
        assert listed.wait(60)
        return found

    async def work() -> None:
        pages = looking(look)
        waiting = asyncio.create_task(pages.explain(WEB))
        await asyncio.sleep(0)
        assert await pages.overview() is not None
        listed.set()
        await waiting

    asyncio.run(work())
