"""Whatever comes in, decoding gives problems and never an exception."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nfproxy.kube.decode import decode
from nfproxy.kube.decoded import Decoded
from nfproxy.kube.identity import Kind, identify

WORDS = re.findall(
    r"\S+",
    "metadata name namespace labels creationTimestamp spec status clusterIP clusterIPs "
    "ipFamilies ports port protocol nodePort externalIPs loadBalancer ingress ip ipMode type "
    "loadBalancerSourceRanges sessionAffinity sessionAffinityConfig clientIP timeoutSeconds "
    "addressType endpoints addresses conditions ready hints forZones forNodes nodeName podCIDRs "
    "cidrs address kubernetes.io/service-name externalTrafficPolicy healthCheckNodePort "
    "IPv4 IPv6 web 10.0.0.1 fd00::1 10.0.0.0/8 TCP Local ClientIP LoadBalancer InternalIP",
)
texts = st.sampled_from(WORDS) | st.text(max_size=8)
leaves = st.none() | st.booleans() | st.integers() | st.floats() | texts
data = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=5),
    max_leaves=30,
)


@st.composite
def almost(draw: st.DrawFn, kind: Kind) -> dict[str, Any]:
    """Return an object of the right outline with anything in its fields."""
    meta = {"name": draw(st.just("web") | data), "labels": draw(data | st.just({}))}
    meta["labels"] = draw(st.just({"kubernetes.io/service-name": "web"}) | st.just(meta["labels"]))
    inner: Any = {
        Kind.SERVICE: {
            "clusterIP": draw(st.just("10.0.0.1") | texts),
            "ipFamilies": draw(st.none() | st.lists(texts, max_size=3)),
            "clusterIPs": draw(st.none() | st.lists(texts, max_size=3)),
            "externalIPs": draw(st.lists(texts, max_size=4)),
            "loadBalancerSourceRanges": draw(st.lists(texts, max_size=4)),
            "ports": draw(
                st.lists(
                    st.fixed_dictionaries(
                        {"port": st.integers()},
                        optional={"name": texts, "protocol": texts, "nodePort": st.integers()},
                    )
                )
            ),
            "type": draw(texts),
            "sessionAffinity": draw(texts),
        },
        Kind.NODE: {"podCIDRs": draw(st.lists(texts))},
        Kind.SERVICE_CIDR: {"cidrs": draw(st.lists(texts))},
    }.get(kind, {})
    return {
        "metadata": meta,
        "spec": inner,
        "addressType": draw(st.sampled_from(["IPv4", "IPv6"])),
        "endpoints": draw(st.lists(st.fixed_dictionaries({"addresses": st.lists(texts)}))),
        "ports": draw(st.lists(st.fixed_dictionaries({"name": texts, "port": st.integers()}))),
    }


def hold_to_promises(result: Decoded[Any]) -> None:
    """Check what every result must be like."""
    assert result.usable or result.value is None
    assert result.usable or result.problems
    assert result.value is None or result.name is not None
    for problem in result.problems:
        assert str(problem).isprintable()
        assert len(str(problem)) < 1000


@pytest.mark.parametrize("kind", list(Kind))
@given(st.data())
@settings(deadline=None)
def test_arbitrary_data(kind, pick):
    obj = pick.draw(data)
    if isinstance(obj, dict):
        hold_to_promises(decode(kind, obj))
    identify(obj)


@pytest.mark.parametrize("kind", list(Kind))
@given(st.data())
@settings(deadline=None)
def test_objects_with_odd_fields(kind, pick):
    hold_to_promises(decode(kind, pick.draw(almost(kind))))


@pytest.mark.parametrize("kind", list(Kind))
@given(st.data())
@settings(deadline=None)
def test_damaged_json(kind, pick):
    good = msgspec.json.encode(pick.draw(almost(kind).filter(_encodes)))
    start = pick.draw(st.integers(0, len(good)))
    end = pick.draw(st.integers(start, min(len(good), start + 10)))
    hold_to_promises(decode(kind, good[:start] + pick.draw(st.binary(max_size=4)) + good[end:]))


def _encodes(obj: object) -> bool:
    try:
        msgspec.json.encode(obj)
    except (UnicodeError, OverflowError, msgspec.MsgspecError):
        return False
    return True


@pytest.mark.parametrize("nested", [b"[" * 200_000, b'{"a":' * 200_000])
def test_deep_nesting(nested):
    result = decode(Kind.SERVICE, b'{"x":' + nested)

    assert (result.problems[0].what, result.usable) == ("is nested too deeply", False)


def test_text_that_is_not_utf_8():
    raw = b'{"metadata":{"name":"a"},"spec":{"clusterIP":"\xff"}}'

    assert decode(Kind.SERVICE, raw).problems[0].what == "holds text that is not UTF-8"
