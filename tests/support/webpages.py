"""The web page of a shop with a Service for each common mistake."""

from __future__ import annotations

from support.insight import explained, shop, sight

from nfproxy.insight.changerecord import CHANGES_PATH, ChangeRecord, ChangeRecords
from nfproxy.insight.daemonstatus import STATUS_PATH
from nfproxy.insight.explanation import Explanation
from nfproxy.insight.overview import Overview, overview, service_rows
from nfproxy.insight.question import ServiceQuestion
from nfproxy.insight.sight import Sight
from nfproxy.insight.statusscreen import NODE_PATH, SERVICES, Mark, StatusRow, StatusScreen
from nfproxy.servers.localpages import local_pages
from nfproxy.servers.pages import JSON, Page, constant
from nfproxy.servers.webpages import Insight, WebPages

STATUS = StatusScreen(
    node="node-1",
    version="0.1.0",
    pid=4711,
    started="2026-11-27T03:47:26Z",
    since="2026-11-30T07:45:49Z",
    at="2026-11-30T07:46:03Z",
    rows=(
        StatusRow(Mark.OK, "programmed", "IPv4 22 frontends, 30 slots; IPv6 not proxied"),
        StatusRow(
            Mark.WARN,
            "changed by others",
            "1 time in the last day, last by nft (pid 1924) at 2026-11-30 07:45:49 UTC: both "
            "tables deleted; repaired after 74 ms",
            "nfproxy changes",
        ),
        StatusRow(Mark.FAIL, SERVICES, "5 refuse everything: no endpoint", "nfproxy services"),
    ),
)
CHANGES = ChangeRecords(
    records=[
        ChangeRecord(
            number=1,
            at="2026-11-30T07:44:09.713Z",
            service="shop/web",
            port="http",
            frontends=("10.96.0.10:80/tcp",),
            added=("10.244.2.12:8080",),
            because=("EndpointSlice web-abcde",),
            after_ms=1.6,
        ),
        ChangeRecord(
            number=2,
            at="2026-11-30T07:45:49.529Z",
            what="both tables deleted",
            by="nft (pid 1924)",
            after_ms=74.0,
        ),
    ]
)


class Shop:
    """
    Answers about the Services of the shop; None while it is not `is_ready`.

    As in the daemon, names of pods, types and targetPorts of Services are unknown.
    """

    def __init__(self) -> None:
        """Plan them."""
        seen = sight(*shop())
        self.seen = Sight(seen.planner, problems=seen.problems)
        self.is_ready = True

    async def overview(self) -> Overview | None:
        """Return all Service ports."""
        return overview(self.seen, service_rows(self.seen)) if self.is_ready else None

    async def explain(self, question: ServiceQuestion) -> Explanation | None:
        """Return why a Service works, or not."""
        return explained(str(question), self.seen) if self.is_ready else None


def shop_pages(
    insight: Insight | None = None, status: StatusScreen = STATUS, changes: ChangeRecords = CHANGES
) -> dict[str, Page]:
    """Return the pages by path."""
    machine = {
        path: constant(b'{"kind": "X"}', JSON) for path in (STATUS_PATH, CHANGES_PATH, NODE_PATH)
    }
    return local_pages(
        WebPages(insight or Shop(), lambda: status, lambda: changes, machine).pages()
    )
