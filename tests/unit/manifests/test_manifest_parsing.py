"""What is in a manifest file, and what one bad object in it costs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nfproxy.kube.heldfiles import FileContent, ObjectKey
from nfproxy.kube.identity import Kind
from nfproxy.manifests.files import Text
from nfproxy.manifests.parsing import parse
from nfproxy.model.service import ObjectName


def service(name: str, **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, **metadata},
        "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80}]},
    }


def yaml_text(*objects: Any) -> bytes:
    """Return documents; JSON is YAML."""
    return "\n---\n".join(json.dumps(obj) for obj in objects).encode()


def read_yaml(*objects: Any) -> FileContent:
    return parse(Text(yaml_text(*objects), json=False, json_only=False), "f.yaml", "n1")


def read_json(obj: Any) -> FileContent:
    return parse(Text(json.dumps(obj).encode(), json=True, json_only=True), "f.json", "n1")


def read_raw(data: bytes, json: bool = False, json_only: bool = False) -> FileContent:
    return parse(Text(data, json, json_only), "f", "n1")


def names(content: FileContent) -> list[str]:
    return [str(key) for key in content.objects]


def lines(content: FileContent) -> list[str]:
    return [str(problem) for problem in content.problems]


KINDS = [
    service("web"),
    {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
    },
    {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}},
    {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": {"name": "kubernetes"},
        "spec": {"cidrs": ["10.96.0.0/12"]},
    },
]
ALL = ["Service default/web", "EndpointSlice default/web-1", "Node n1", "ServiceCIDR kubernetes"]


@pytest.mark.parametrize(
    "content",
    [
        read_yaml(*KINDS),
        read_yaml({"apiVersion": "v1", "kind": "List", "items": KINDS}),
        read_json({"apiVersion": "v1", "kind": "List", "items": KINDS}),
        read_json({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": [
            {"apiVersion": "v1", "kind": "List", "items": KINDS}]}),
    ],
)  # fmt: skip
def test_every_kind_that_is_used_in_every_wrapping(content):
    assert (names(content), lines(content)) == (ALL, [])
    assert all(value is not None for value in content.objects.values())


@pytest.mark.parametrize("read", [read_yaml, read_json])
def test_items_of_a_typed_list_need_no_kind(read):
    item = service("web")
    del item["kind"], item["apiVersion"]
    content = read({"apiVersion": "v1", "kind": "ServiceList", "items": [item]})

    assert (names(content), lines(content)) == (["Service default/web"], [])


NOTHING = "holds no object of a kind that nfproxy reads (Service, EndpointSlice, Node, ServiceCIDR)"


@pytest.mark.parametrize("items", [[], None])
def test_an_empty_list(items):
    content = read_json({"apiVersion": "v1", "kind": "List", "items": items})

    assert (content.objects, lines(content)) == ({}, [f"f.json: {NOTHING}"])


def test_only_this_node_is_read():
    other = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n2"}, "spec": 5}

    assert FileContent() == read_yaml(other)


def test_other_kinds_of_kubernetes_are_skipped_in_silence_beside_what_is_read():
    others = [
        ("v1", "Pod"), ("v1", "ConfigMap"), ("apps/v1", "Deployment"), ("batch/v1", "Job"),
        ("networking.k8s.io/v1", "Ingress"), ("gateway.networking.k8s.io/v1", "Gateway"),
        ("policy/v1", "PodDisruptionBudget"),
        ("kubeproxy.config.k8s.io/v1alpha1", "KubeProxyConfiguration"),
    ]  # fmt: skip
    objects = [{"apiVersion": v, "kind": k, "metadata": {"name": "x"}} for v, k in others]

    assert lines(read_yaml(*objects)) == [f"f.yaml: {NOTHING}"]
    assert lines(read_yaml(*objects, service("web"))) == []


def test_endpoints_of_the_old_kind_are_spoken_of():
    """They belong to Services without selector; nfproxy reads EndpointSlices alone."""
    old = {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "web"}}
    (line,) = lines(read_yaml(old, service("web")))

    assert "Endpoints web: kind Endpoints is not read" in line
    assert "EndpointSlice of discovery.k8s.io/v1" in line


NO_OBJECT = "is not an object (a mapping with apiVersion and kind); ignored"


@pytest.mark.parametrize(
    ("obj", "line"),
    [
        (
            {"apiVersion": "v1", "kind": "Servise", "metadata": {"name": "web"}},
            "Servise web: kind Servise of apiVersion v1 is not known to nfproxy; ignored",
        ),
        (
            service("web") | {"apiVersion": "v2"},
            "Service default/web: has apiVersion v2, but nfproxy reads Service of v1; ignored",
        ),
        (
            KINDS[1] | {"apiVersion": "discovery.k8s.io/v1beta1"},
            "EndpointSlice default/web-1: has apiVersion discovery.k8s.io/v1beta1, but "
            "nfproxy reads EndpointSlice of discovery.k8s.io/v1; ignored",
        ),
        (
            {"kind": "Service"},
            "Service without a name: has no apiVersion, so it is no Kubernetes object; ignored",
        ),
        ({"a": 1}, "document 1: has no kind, so it is no Kubernetes object; ignored"),
        ([1], f"document 1: {NO_OBJECT}"),
        ("text", f"document 1: {NO_OBJECT}"),
        ({"apiVersion": "v1", "kind": "List", "items": [5]}, f"document 1 items[0]: {NO_OBJECT}"),
        (
            {"apiVersion": "v1", "kind": "List", "items": {}},
            "document 1 List: items: is a mapping, not a list",
        ),
        (
            {"apiVersion": "v1", "kind": 'x"\n', "metadata": {"name": "\x1b;"}},
            "'x\"\\n' '\\x1b;': kind 'x\"\\n' of apiVersion v1 is not known to nfproxy; ignored",
        ),
    ],
)
def test_what_is_not_read_is_reported(obj, line):
    assert [f"f.yaml: {line}"] == lines(read_yaml(obj))


def test_an_unknown_kind_is_reported_once():
    custom = [
        {"apiVersion": "example.org/v1", "kind": "Widget", "metadata": {"name": f"w{number}"}}
        for number in range(50)
    ]

    assert len(read_yaml(*custom).problems) == 1


@pytest.mark.parametrize(
    "bad",
    [
        service("bad") | {"spec": {"clusterIP": 5}},
        service('b"ad;\n'),
        service("bad", namespace="x y"),
        {"apiVersion": "v1", "kind": "Service"},
        "text",
        5,
        {},
        [[[]]],
    ],
)
@pytest.mark.parametrize("read", [read_yaml, read_json])
def test_a_bad_object_costs_only_itself(read, bad):
    items = [service("one"), bad, service("two")]
    content = read({"apiVersion": "v1", "kind": "List", "items": items})

    assert names(content) == ["Service default/one", "Service default/two"]
    assert content.problems


def test_a_document_that_does_not_parse_leaves_the_others():
    text = yaml_text(service("one")) + b"\n---\na: [\n---\n" + yaml_text(service("two"))
    content = read_raw(text)

    assert names(content) == ["Service default/one", "Service default/two"]
    assert lines(content)[0].startswith("f: not valid YAML: it ends too early")
    assert lines(content)[0].endswith("line 4")
    assert not content.parsed


def test_duplicate_keys_are_reported_with_the_object():
    data = yaml_text(service("web")).replace(b'"spec"', b'"kind": "Service", "spec"')
    (line,) = lines(read_raw(data))

    assert line.startswith("f: Service default/web: key 'kind' twice")


def test_of_an_object_twice_in_a_file_the_first_counts():
    second = service("web")
    second["spec"]["clusterIP"] = "10.96.0.2"
    content = read_yaml(service("web"), second)

    assert content.objects == read_yaml(service("web")).objects
    assert lines(content) == [
        "f.yaml: Service default/web: is in the file twice; the first one counts"
    ]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x7fELF\x02\x01\x01" + bytes(100), "control characters"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "not UTF-8 text (byte 0x89 at offset 0)"),
        (b"a: \xff", "not UTF-8 text (byte 0xff at offset 3)"),
        (b"\xff\xfea", "not UTF-8"),
        (bytes(1000), "control characters"),
    ],
)
def test_binary(data, words):
    content = read_raw(data)

    assert (content.parsed, len(content.problems)) == (False, 1)
    assert words in lines(content)[0]


def test_utf_16_is_read():
    content = read_raw(yaml_text(service("web")).decode().encode("utf-16"))

    assert (names(content), lines(content)) == (["Service default/web"], [])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is not valid JSON: ends too early, line 1, column 1"),
        (b"{", "is not valid JSON: ends too early, line 1, column 2"),
        (b'{"a": nope}', "not valid JSON"),
        (b"{}\n{}", "is not valid JSON, line 2, column 1"),
        (b'{"a": ' + b"[" * 500_000, "nested too deeply"),
    ],
)
def test_json_that_does_not_parse(data, words):
    content = read_raw(data, json=True, json_only=True)

    assert (content.parsed, content.objects) == (False, {})
    assert words in lines(content)[0]


def test_json_that_is_no_object():
    content = read_raw(b'["a"]', json=True, json_only=True)

    assert lines(content) == ["f: is not an object (a mapping with apiVersion and kind); ignored"]


def test_flow_style_yaml_is_not_mistaken_for_json():
    text = b"{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {clusterIP: 10.96.0.1}}"

    assert names(read_raw(text, json=True)) == ["Service default/web"]


@pytest.mark.parametrize(
    ("bad", "may_hold"),
    [
        (service("web") | {"spec": 5}, [True, False, False, False]),
        (service("web") | {"apiVersion": "v9"}, [True, False, True, False]),
        (service("web") | {"kind": "Servise"}, [True, False, True, False]),
        (service("web", namespace="shop") | {"spec": 5}, [False, False, False, True]),
        (service("web") | {"metadata": {"name": 5}}, [True, True, True, True]),
        (service("we\nb"), [True, True, True, True]),
        ({"a": 1}, [True, True, True, True]),
        ({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}}, [False] * 4),
    ],
)
def test_an_object_that_cannot_be_used_may_be_one_known_from_before(bad, may_hold):
    content = read_yaml(bad)
    keys = [
        ObjectKey(Kind.SERVICE, ObjectName("default", "web")),
        ObjectKey(Kind.SERVICE, ObjectName("default", "other")),
        ObjectKey(Kind.NODE, ObjectName("", "web")),
        ObjectKey(Kind.SERVICE, ObjectName("shop", "web")),
    ]

    assert may_hold == [content.may_hold(key) for key in keys]


data = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["kind", "apiVersion", "metadata", "name", "items", "spec"]), inner
        )
    ),
    max_leaves=12,
)


@given(st.lists(data, max_size=4))
@settings(deadline=None)
def test_arbitrary_documents_never_raise(objects):
    for content in (
        read_yaml(*objects),
        read_json(objects),
        read_json({"kind": "List", "items": objects}),
    ):
        assert all(str(problem).isprintable() for problem in content.problems)


@given(st.binary(max_size=200), st.booleans())
@settings(deadline=None)
def test_arbitrary_bytes_never_raise(raw, as_json):
    read_raw(raw, as_json, as_json)


def test_of_very_many_problems_a_few_hundred_are_reported() -> None:
    """The number of the others is, too."""
    content = read_json(
        {"apiVersion": "v1", "kind": "List", "items": [{}] * 5000 + [service("web")]}
    )
    said = lines(content)

    assert (names(content), content.parsed) == (["Service default/web"], True)
    assert len(said) == 201
    assert said[0] == "f.json: items[0]: has no kind, so it is no Kubernetes object; ignored"
    assert said[-1] == "f.json: and 4,800 more problems"


@pytest.mark.parametrize(
    "content",
    [
        read_json({"apiVersion": "v1", "kind": "List", "items": [{"a": 1}] * 20_000}),
        read_raw(b"x\n---\n" * 20_000),
    ],
    ids=["list", "documents"],
)
def test_a_file_of_something_else_is_not_read_to_its_end(content: FileContent) -> None:
    """A million things that are no objects do not take minutes; what was in force stays."""
    said = lines(content)

    assert not content.parsed
    assert len(said) == 202
    assert "the rest of it is not read" in said[-2]


def test_a_list_of_empty_objects_is_refused_as_a_whole() -> None:
    """Three bytes each in the file, they would take sixty each in memory."""
    content = read_raw(
        b'{"apiVersion":"v1","kind":"List","items":[' + b"{}," * 200_000 + b"{}]}", json=True
    )

    assert lines(content) == ["f: List: holds more than 100,000 empty objects; ignored"]
    assert content.may_hold(ObjectKey(Kind.SERVICE, ObjectName("default", "web")))


@pytest.mark.parametrize("data", [b"", b"\n  \n"])
def test_a_file_without_content_may_hold_anything(data: bytes) -> None:
    """A full disk leaves such files of those that an editor writes."""
    content = read_raw(data)

    assert (content.objects, content.parsed) == ({}, True)
    assert lines(content) == [f"f: {NOTHING}"]
    assert content.may_hold(ObjectKey(Kind.SERVICE, ObjectName("default", "web")))
