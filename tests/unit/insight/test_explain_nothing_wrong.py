"""Where nothing is wrong, the engine finds nothing."""

import pytest
from support.golden import Case, cases
from support.insight import changed, codes, explained, shop, sight
from support.objects.everything import everything

from nfproxy.insight.diagnosis import Severity
from nfproxy.insight.explain import explain
from nfproxy.insight.explanation import Conclusion
from nfproxy.insight.question import ServiceQuestion
from nfproxy.insight.sight import Sight

SHOP = sight(*shop())


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_working_services_of_the_rulesets_have_no_findings(case: Case) -> None:
    """Whatever works may have notes, and a warning only where endpoints are about to go."""
    seen = Sight(case.planner())
    for name in seen.planner.services:
        found = explain(seen, ServiceQuestion(name))
        if found.conclusion is Conclusion.WORKS:
            assert {one.level for one in found.findings} <= {Severity.NOTE, Severity.WARN}
            assert {f"{o.code}" for o in found.findings if o.level is Severity.WARN} <= {
                "TerminatingOnly"
            }
        else:
            assert any(one.level is Severity.FAIL for one in found.findings)


def test_objects_of_all_kinds_have_no_findings() -> None:
    """Both families, three protocols, all kinds of addresses."""
    seen = sight(*everything())
    for name in seen.planner.services:
        found = explain(seen, ServiceQuestion(name))
        expected = ["fail NoSlices"] if name.name == "empty" else []
        assert codes(found) == expected, name


def test_another_service_changes_nothing() -> None:
    """Fields of one Service have no effect on the answer about another."""
    other = sight(*changed(shop(), "web", externalTrafficPolicy="Local"))

    assert explained("shop/api", other) == explained("shop/api", SHOP)
