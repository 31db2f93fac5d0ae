"""Whatever a configuration file holds, it is read or refused with a ConfigError."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nfproxy.config.document import parse_document
from nfproxy.config.flags import Flags
from nfproxy.config.kubeproxy import KubeProxyConfiguration
from nfproxy.config.load import load
from nfproxy.errors import ConfigError

HEADER = {"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration"}
WORDS = ["1m", "-1s", "9" * 30 + "h", "0.0.0.0:1", "[::1]:x", "10.0.0.0/8", "::/0", "nftables", ""]
NAMES = [field.encode_name for field in msgspec.structs.fields(KubeProxyConfiguration)]

texts = st.sampled_from([*WORDS, *NAMES]) | st.text(max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
documents = st.dictionaries(st.sampled_from(NAMES) | texts, values, max_size=6)


@given(
    st.binary(max_size=80) | st.text(max_size=80).map(lambda text: text.encode("utf-8", "replace"))
)
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    with suppress(ConfigError):
        parse_document(raw, "kp.yaml")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(documents)
def test_any_values_are_taken_or_refused(tmp_path: Path, document: dict[str, Any]) -> None:
    path = tmp_path / "kp.yaml"
    path.write_text(json.dumps(HEADER | document), "utf-8", "surrogatepass")
    with suppress(ConfigError):
        load(Flags.of(config=str(path)))
