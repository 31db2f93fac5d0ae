"""Codes, levels and the exit status."""

import msgspec

from nfproxy.insight.diagnosis import (
    Code,
    Diagnosis,
    ObjectField,
    Severity,
    exit_status,
    in_order,
    worst,
)
from nfproxy.insight.explanation import Conclusion, Explanation, to_data, worst_conclusion

FAIL = Diagnosis(Severity.FAIL, Code.NO_SLICES, "no EndpointSlice")
WARN = Diagnosis(Severity.WARN, Code.TERMINATING_ONLY, "only terminating endpoints")
NOTE = Diagnosis(Severity.NOTE, Code.HINTS_ELSEWHERE, "hints")


def test_every_code_has_a_name_of_its_own_and_a_sentence() -> None:
    """Names are in the form of Kubernetes' reasons."""
    assert all(code.value.isalnum() and code.value[0].isupper() for code in Code)
    assert all(code.meaning.endswith((".", "…")) for code in Code)
    assert len({code.meaning for code in Code}) == len(Code)


def test_the_worst_comes_first_and_nothing_twice() -> None:
    """Otherwise the order stays."""
    assert in_order([NOTE, FAIL, WARN, FAIL]) == (FAIL, WARN, NOTE)
    assert worst([NOTE, WARN]) is Severity.WARN
    assert worst([]) is None


def test_the_exit_status() -> None:
    """A note never counts, and a warning with --strict alone."""
    assert [exit_status([one], strict=False) for one in (FAIL, WARN, NOTE)] == [1, 0, 0]
    assert [exit_status([one], strict=True) for one in (FAIL, WARN, NOTE)] == [1, 1, 0]


def test_a_diagnosis_in_json() -> None:
    """The fields of the documented format, and a code by its name."""
    about = ObjectField("Service", "shop", "web", "spec.ports")
    found = msgspec.json.decode(msgspec.json.encode(msgspec.structs.replace(FAIL, about=about)))

    assert found["code"] == "NoSlices"
    assert found["level"] == "fail"
    assert found["about"] == {
        "kind": "Service", "namespace": "shop", "name": "web", "field": "spec.ports",
    }  # fmt: skip
    assert str(about) == "Service shop/web: spec.ports"


def test_an_explanation_in_json_has_the_field_names_of_the_api() -> None:
    """What was not looked at is null, or false."""
    data = to_data(Explanation(asked="shop/web", findings=(FAIL,)))

    assert (data["apiVersion"], data["kind"]) == ("nfproxy.io/v1alpha1", "Explanation")
    assert data["verdict"] == "unknown"
    assert data["seen"]["kernel"] is False
    assert data["findings"][0]["code"] == "NoSlices"


def test_the_verdict_is_the_worst() -> None:
    """Refused and dropped before partly."""
    assert worst_conclusion(Conclusion) is Conclusion.REFUSED
    assert worst_conclusion([Conclusion.WORKS, Conclusion.PARTLY]) is Conclusion.PARTLY
    assert worst_conclusion([]) is Conclusion.UNKNOWN
