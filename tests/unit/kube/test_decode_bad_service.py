"""Services that cannot be used, and what is said of them."""

from __future__ import annotations

import pytest
from support.objects.decoding import decoded, fields, manifest, service

from nfproxy.model.service import ObjectName


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda o: o.pop("spec"), "spec"),
        (lambda o: o.update(spec=None), "spec"),
        (lambda o: o.update(spec=[]), "spec"),
        (lambda o: o["metadata"].pop("name"), "metadata.name"),
        (lambda o: o["metadata"].update(name=5), "metadata.name"),
        (lambda o: o.pop("metadata"), "metadata"),
        (lambda o: o["spec"]["ports"][0].update(port="http"), "spec.ports[0].port"),
        (lambda o: o["spec"]["ports"][0].pop("port"), "spec.ports[0].port"),
        (lambda o: o["spec"].update(ports={}), "spec.ports"),
        (lambda o: o["spec"].update(externalIPs=[1]), "spec.externalIPs[0]"),
        (lambda o: o["spec"].update(clusterIP=True), "spec.clusterIP"),
        (lambda o: o["metadata"].update(labels=[]), "metadata.labels"),
        (lambda o: o.update(status=7), "status"),
    ],
)
def test_a_wrong_or_missing_field_makes_the_object_unusable(change, field):
    obj = manifest()
    change(obj)
    result = decoded(obj)

    assert (None, False, [field]) == (result.value, result.usable, fields(result))


@pytest.mark.parametrize(
    ("numbers", "lines"),
    [
        (
            [99999],
            ["spec.ports[0].port: 99999 is not a port (1 to 65535); the Service has no other port"],
        ),
        (
            [99999, 0],
            [
                "spec.ports[0].port: 99999 is not a port (1 to 65535); this port is not proxied",
                "spec.ports[1].port: 0 is not a port (1 to 65535); this port is not proxied",
                "spec.ports: holds no port that can be used",
            ],
        ),
        ([], ["spec.ports: holds no port that can be used"]),
    ],
)
def test_one_mistake_in_ports_is_one_line(numbers, lines):
    ports = [{"name": f"p{index}", "port": number} for index, number in enumerate(numbers)]
    problems = decoded(manifest(ports=ports)).problems

    assert [str(one).partition("shop/web: ")[2] for one in problems] == lines


def test_an_unusable_object_still_has_its_name():
    """So that its last good version can stay in use."""
    result = decoded(manifest(ports="none"))

    assert ObjectName("shop", "web") == result.name
    assert str(result.problems[0]).startswith("file.yaml: Service shop/web: spec.ports: ")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Web",
        "a b",
        'a"b',
        "a;b",
        "a\nb",
        "a\0",
        "-a",
        "a-",
        "a.b",
        "ä",
        "a" * 64,
        "a}' \\",
        "a\ud800",
    ],
)
def test_a_service_name_the_api_refuses_makes_the_object_unusable(name):
    obj = manifest()
    obj["metadata"]["name"] = name
    result = decoded(obj)

    assert (result.name, result.value, result.usable) == (None, None, False)
    assert fields(result) == ["metadata.name"]


def test_a_namespace_the_api_refuses_makes_the_object_unusable():
    obj = manifest()
    obj["metadata"]["namespace"] = 'x"; add table ip owned'

    assert fields(decoded(obj)) == ["metadata.namespace"]


def test_a_hostile_name_is_escaped_and_cut_in_messages():
    obj = manifest()
    obj["metadata"]["name"] = '"\n\x1b[2J;' + "x" * 10_000
    (problem,) = decoded(obj).problems

    assert len(str(problem)) < 400
    assert str(problem).isprintable()


def test_a_name_may_begin_with_a_digit():
    obj = manifest()
    obj["metadata"]["name"] = "7-eleven"

    assert service(obj).name.name == "7-eleven"


def test_an_object_with_endless_problems_reports_twenty():
    ips = [f"x{number}" for number in range(5000)]
    problems = decoded(manifest(externalIPs=ips)).problems

    assert len(problems) == 21
    assert problems[-1].what == "and 4980 more problems"
