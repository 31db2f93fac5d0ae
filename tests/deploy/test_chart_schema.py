"""The schema of the chart's values, against the values there are and against what nfproxy takes."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import yaml
from hypothesis import given
from hypothesis import strategies as st
from support.manifests.helm import CHART, preset

from nfproxy.config.addresses import is_cidr
from nfproxy.config.flags import Flags
from nfproxy.config.load import load
from nfproxy.config.lookup import BY_FIELD
from nfproxy.errors import ConfigError

SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text("utf-8"))
DEFAULTS: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))

#: Values that hold what a part of a Kubernetes object holds.
FREE = {
    *("affinity", "config", "nodeSelector", "resources", "prepare.resources", "updateStrategy"),
    *("seLinuxOptions", "labels", "podAnnotations", "podLabels", "serviceAccount.annotations"),
    "metrics.dashboard.labels",
}


def test_values_and_schema_have_the_same_keys() -> None:
    """Each value has a place in the schema and a default, blocks within blocks included."""
    assert _keys(DEFAULTS) == _schema_keys(SCHEMA) - {"global"}


def _keys(values: dict[str, Any], prefix: str = "") -> set[str]:
    """Return the paths of all values; what is within a Kubernetes object is left out."""
    found = set[str]()
    for key, value in values.items():
        found.add(prefix + key)
        if isinstance(value, dict) and prefix + key not in FREE:
            found |= _keys(value, f"{prefix}{key}.")
    return found


def _schema_keys(schema: dict[str, Any], prefix: str = "") -> set[str]:
    found = set[str]()
    for key, value in schema.get("properties", {}).items():
        found.add(prefix + key)
        if prefix + key not in FREE:
            found |= _schema_keys(value, f"{prefix}{key}.")
    return found


def test_every_value_is_explained() -> None:
    """Above each value of values.yaml a comment says what it is."""
    lines = (CHART / "values.yaml").read_text("utf-8").splitlines()
    bare = [
        line
        for above, line in pairwise(lines)
        if line and not line.startswith((" ", "#")) and not above.startswith("#")
    ]

    assert bare == []


def test_config_has_the_fields_of_kube_proxys_configuration() -> None:
    """The schema of ``config`` knows every field that nfproxy knows, and no others."""
    config = SCHEMA["properties"]["config"]
    (refused,) = config["patternProperties"]
    elsewhere = {path for path in BY_FIELD if _matches(refused, path.partition(".")[0])}

    assert {*BY_FIELD} - elsewhere == _leaves(config)


def _matches(pattern: str, name: str) -> bool:
    return bool(jsonschema.Draft7Validator({"pattern": pattern}).is_valid(name))


def _leaves(schema: dict[str, Any], prefix: str = "") -> set[str]:
    found = set[str]()
    for key, value in schema["properties"].items():
        if "properties" in value:
            found |= _leaves(value, f"{prefix}{key}.")
        else:
            found.add(prefix + key)
    return found


def _definition(name: str) -> jsonschema.Draft7Validator:
    return jsonschema.Draft7Validator(SCHEMA["definitions"][name])


ADDRESSES = st.one_of(
    st.ip_addresses().map(str),
    st.ip_addresses(v=6).map(lambda address: address.exploded),
    st.from_regex(r"\A(:?:?[0-9a-f]{0,5}){1,9}\Z"),
    st.from_regex(r"\A[0-9]{1,3}(\.[0-9]{1,3}){2,4}\Z"),
)
CIDRS = st.tuples(ADDRESSES, st.integers(0, 140)).map(lambda pair: f"{pair[0]}/{pair[1]}")


@given(CIDRS)
def test_the_schemas_cidrs_are_cidrs(text: str) -> None:
    """
    The schema takes what Python's ipaddress takes, and all of that is right for nfproxy.

    Left out are IPv6 addresses that stand for IPv4 ones: no cluster names pods so, and nfproxy
    refuses them.
    """
    accepted = _definition("cidr").is_valid(text)

    assert accepted == (_is_interface(text) and not {":", "."} <= {*text})
    assert is_cidr(text) or not accepted or _is_mapped(text)


def _is_interface(text: str) -> bool:
    try:
        ipaddress.ip_interface(text)
    except ValueError:
        return False
    return True


def _is_mapped(text: str) -> bool:
    address = ipaddress.ip_interface(text).ip
    return address.version == 6 and address.ipv4_mapped is not None


NUMBERS = st.one_of(st.integers(-2, 40), st.integers(), st.floats(allow_nan=False))
DURATIONS = st.one_of(
    st.from_regex(r"\A[-+]?(\d{0,7}(\.\d{0,2})?(ns|us|ms|s|m|h)){1,3}\Z"), st.just("0"), NUMBERS
)
ANYTHING = st.one_of(
    NUMBERS,
    DURATIONS,
    st.booleans(),
    st.text(max_size=4),
    ADDRESSES,
    st.lists(st.text(), max_size=2),
)


@st.composite
def configs(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a value ``config``: a field or two of KubeProxyConfiguration, with any values."""
    fields = sorted(_leaves(SCHEMA["properties"]["config"]))
    config: dict[str, Any] = {}
    for path in draw(st.lists(st.sampled_from(fields), min_size=1, max_size=2)):
        *blocks, last = path.split(".")
        block = config
        for name in blocks:
            block = block.setdefault(name, {})
        block[last] = draw(ANYTHING)
    return config


@given(configs())
def test_config_for_the_schema_is_config_for_nfproxy(
    tmp_path_factory: Any, config: dict[str, Any]
) -> None:
    """What the schema lets into ``config`` nfproxy starts with, but for periods that contradict."""
    if not jsonschema.Draft7Validator(SCHEMA).is_valid({"config": config}):
        return
    file = tmp_path_factory.getbasetemp() / "config.conf"
    header = {"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration"}
    file.write_text(json.dumps({**header, **config}), "utf-8")
    assert not [text for text in _complaints(file) if "nftables.minSyncPeriod" not in text]


def _complaints(file: Path) -> Sequence[str]:
    """Return what nfproxy has against a configuration file."""
    try:
        warnings = load(Flags({"config": str(file)})).warnings
    except ConfigError as error:
        return [str(error)]
    return [text for text in warnings if "unknown field" in text]


def test_presets_are_accepted_by_name() -> None:
    """A preset is values alone: the schema knows each of them."""
    for path in (CHART / "presets").iterdir():
        jsonschema.Draft7Validator(SCHEMA).validate(preset(path.stem))
