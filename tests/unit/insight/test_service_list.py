"""Which Service ports a page lists, and in which order."""

import pytest
from support.insight import shop, sight

from nfproxy.insight.diagnosis import Severity
from nfproxy.insight.explanation import Conclusion, Seen
from nfproxy.insight.overview import Overview, ServiceRow, overview, service_rows
from nfproxy.insight.servicelist import ROWS_ON_A_PAGE, Choice, ServiceList, service_list

SEEN = sight(*shop())
SHOP = overview(SEEN, service_rows(SEEN))


def labels(choice: Choice) -> list[str]:
    return [row.label for row in service_list(SHOP, choice).services]


def test_what_fails_comes_first_then_names() -> None:
    """What answers some clients only is behind what fails, and before what works."""
    found = service_list(SHOP, Choice())
    ranks = [
        list(Severity).index(row.level)
        if row.is_problem and row.level
        else 2 + (not row.is_notable)
        for row in found.services
    ]

    assert ranks == sorted(ranks)
    assert found.services[0].level is Severity.FAIL
    assert found.services[-1].conclusion is Conclusion.WORKS
    assert (found.matching, found.total, found.page, found.pages) == (11, 11, 1, 1)
    works = [row.label for row in found.services if not row.is_notable]
    assert works == sorted(works)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (Choice("CATALOG"), ["shop/catalog:http"]),
        (Choice("10.96.0.30"), ["shop/catalog:http"]),
        (Choice("30060"), ["shop/audit:http"]),
        (Choice("http-alt"), ["shop/catalog:http"]),
        (Choice("PortNameDiffers"), ["shop/billing:http"]),
        (Choice("shop cat"), ["shop/catalog:http"]),
        (Choice("shop <script>"), []),
        (Choice(namespace="team-b"), ["team-b/mail2:http"]),
        (Choice(namespace="team"), []),
        (Choice("shop/web", only_problems=True), []),
    ],
)
def test_readers_choose(choice: Choice, expected: list[str]) -> None:
    """By each word of a text, by namespace, by whether something is wrong."""
    assert labels(choice) == expected


def test_problems_are_as_many_as_said() -> None:
    """The number on the tab is that of the rows behind it."""
    found = service_list(SHOP, Choice(only_problems=True))

    assert found.matching == found.problems == len(found.services) > 0
    assert all(row.is_notable for row in found.services)


def many(count: int) -> Overview:
    rows = tuple(
        ServiceRow(
            namespace="shop",
            name=f"web-{n:05}",
            port="http",
            protocol="TCP",
            number=80,
            conclusion=Conclusion.WORKS,
        )
        for n in range(count)
    )
    return Overview(seen=Seen(node="node-1"), services=rows, total=count)


@pytest.mark.parametrize(
    ("page", "shown", "first"),
    [(1, 1, "web-00000"), (2, 2, "web-00200"), (3, 3, "web-00400"), (99, 3, "web-00400")],
)
def test_pages_have_two_hundred_rows(page: int, shown: int, first: str) -> None:
    """A page behind the last one is the last one: Services may have gone meanwhile."""
    found: ServiceList = service_list(many(2 * ROWS_ON_A_PAGE + 1), Choice(page=page))

    assert (found.page, found.pages, found.services[0].name) == (shown, 3, first)
    assert len(found.services) == (1 if shown == 3 else ROWS_ON_A_PAGE)


def test_no_service_is_one_empty_page() -> None:
    """Of one."""
    found = service_list(Overview(), Choice(page=0))

    assert (found.page, found.pages, found.services) == (1, 1, ())
