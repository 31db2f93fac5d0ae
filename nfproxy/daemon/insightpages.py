"""
What `services` lists and `explain` needs, from the plan that the daemon has: for commands here.

They need no API server then, and the daemon has the objects already.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec
from aiohttp.web_request import BaseRequest
from aiohttp.web_response import Response

from nfproxy.clock import monotonic_s
from nfproxy.errors import InputError, NfproxyError
from nfproxy.host.freememory import give_back
from nfproxy.insight.explain import explain
from nfproxy.insight.explanation import Explanation
from nfproxy.insight.nodeobjects import OBJECTS_PATH, SERVICES_PATH, objects_for
from nfproxy.insight.overview import LastVersion, Overview, overview, service_rows
from nfproxy.insight.question import ServiceQuestion, parse_question
from nfproxy.insight.sight import Sight
from nfproxy.model.changes import Problem
from nfproxy.model.service import ObjectName
from nfproxy.plan.planner import Planner
from nfproxy.servers.pages import JSON, Page, answer, error

#: A list that was asked for again within this time is the same one: making it takes a tenth of
#: a second of processor time with 10,000 Services.
_FRESH_S = 2.0
_NOT_YET = "nothing is planned yet; try again in a moment"


class _Made(NamedTuple):
    found: Overview
    at_s: float


class _Explained(NamedTuple):
    question: ServiceQuestion
    found: Explanation
    at_s: float


#: Adds what this node knows; blocks for up to two seconds. Raises NfproxyError.
LookAtNode = Callable[[Explanation, Planner], Explanation]


class InsightPages:
    """
    Computes answers in threads of their own, one at a time, and never in the event loop.

    They look things up in the planner while the worker thread may be planning. Each look-up gives
    the value before or after a change.
    """

    def __init__(
        self,
        planner: Callable[[], Planner | None],
        problems: Callable[[], tuple[Problem, ...]],
        has_node: Callable[[], bool],
        look: LookAtNode = lambda explanation, _: explanation,
        in_force: Callable[[ObjectName], LastVersion] = lambda _: LastVersion(),
    ) -> None:
        """
        Make nothing yet.

        `planner` returns None before the first commit; `problems` are those of objects now. `look`
        adds what kernel, connections and routes say of a Service, `in_force` whether the kernel
        has its last version.
        """
        self._planner = planner
        self._problems = problems
        self._has_node = has_node
        self._one_at_a_time = asyncio.Lock()
        self._made: _Made | None = None
        self._look = look
        self._in_force = in_force
        self._look_one_at_a_time = asyncio.Lock()  # of its own: lists must not wait for it
        self._explained: _Explained | None = None

    def pages(self) -> Mapping[str, Page]:
        """Return the pages by path."""
        return {SERVICES_PATH: self._services, OBJECTS_PATH: self._objects}

    async def overview(self) -> Overview | None:
        """Return all Service ports, None before anything is planned."""
        async with self._one_at_a_time:
            sight = self._sight()
            if sight is None:
                return None
            if self._made is None or monotonic_s() - self._made.at_s > _FRESH_S:
                found = await asyncio.to_thread(_all_rows, sight, self._in_force)
                self._made = _Made(found, monotonic_s())
                asyncio.get_running_loop().call_later(_FRESH_S, self._forget, self._made)
            return self._made.found

    def _forget(self, made: _Made) -> None:
        """Give back the memory of a list that no longer serves: megabytes."""
        if self._made is made:
            self._made = None
            # What readers still hold goes with their answers, before the thread comes to it.
            asyncio.get_running_loop().run_in_executor(None, give_back)

    async def explain(self, question: ServiceQuestion) -> Explanation | None:
        """
        Return why a Service works, or not; None before anything is planned.

        The last answer serves for a moment: a browser that loads a page again and again makes the
        kernel list no more connections.
        """
        async with self._look_one_at_a_time:
            last = self._explained
            if last and last.question == question and monotonic_s() - last.at_s < _FRESH_S:
                return last.found
            sight = self._sight()
            if sight is None:
                return None
            found = await asyncio.to_thread(self._explain, sight, question)
            self._explained = _Explained(question, found, monotonic_s())
            return found

    def _explain(self, sight: Sight, question: ServiceQuestion) -> Explanation:
        found = explain(sight, question)
        seen = msgspec.structs.replace(found.seen, objects="this nfproxy")
        found = msgspec.structs.replace(found, seen=seen)
        try:
            return self._look(found, sight.planner)
        except NfproxyError as error:
            missing = (*found.seen.missing, f"kernel, connections and routes: {error}")
            seen = msgspec.structs.replace(found.seen, missing=missing)
            return msgspec.structs.replace(found, seen=seen)

    def _sight(self) -> Sight | None:
        planner = self._planner()
        if planner is None:
            return None
        return Sight(planner, problems=self._problems(), has_node=self._has_node())

    async def _services(self, request: BaseRequest) -> Response:
        found = await self.overview()
        if found is None:
            return error(_NOT_YET, 503)
        return answer(await asyncio.to_thread(msgspec.json.encode, found), JSON)

    async def _objects(self, request: BaseRequest) -> Response:
        sight = self._sight()
        if sight is None:
            return error(_NOT_YET, 503)
        query = request.query
        try:
            question = parse_question(query.get("what", ""), query.get("namespace", ""))
        except InputError as failure:
            return error(str(failure), 400)
        async with self._one_at_a_time:
            found = await asyncio.to_thread(objects_for, sight, question)
            body = await asyncio.to_thread(msgspec.json.encode, found)
        return answer(body, JSON)


def _all_rows(sight: Sight, in_force: Callable[[ObjectName], LastVersion]) -> Overview:
    return overview(sight, service_rows(sight, sorted(sight.planner.services), in_force))
