"""
The configuration file: from YAML or JSON to data, and back.

The file may be hostile or broken: its size, its nesting and what its aliases expand to are limited.
Duplicate keys are warnings, as in kube-proxy. :mod:`~nfproxy.config.decoding` reads the fields.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from nfproxy.config.kubeproxy import KubeProxyConfiguration
from nfproxy.config.validate import describe
from nfproxy.errors import ConfigError, InputError, reason_of
from nfproxy.text import shown_path
from nfproxy.yaml import Limits, decode_text, dump, first_document

MAX_BYTES = 256 << 10
LIMITS = Limits(depth=50, nodes=100_000, aliased=100_000)


class ConfigData(NamedTuple):
    """The data of a file's first document, and warnings about it."""

    data: Any
    warnings: tuple[str, ...]


def read_document(path: str) -> ConfigData:
    """Read and parse a configuration file. Raises ConfigError."""
    try:
        with Path(path).open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = reason_of(error) if isinstance(error, OSError) else "not a valid path"
        shown = shown_path(path)
        raise ConfigError(f"{shown}: cannot read the configuration file: {reason}") from None
    return parse_document(raw, shown_path(path))


def parse_document(raw: bytes, name: str) -> ConfigData:
    """
    Parse the bytes of a configuration file called `name`.

    A text that begins with a brace is JSON; if it is not, it may still be YAML. Raises ConfigError.
    """
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"{name}: larger than {MAX_BYTES >> 10} KiB; not a configuration file")
    try:
        text = decode_text(raw)
        if text.lstrip().startswith("{"):
            try:
                return _parse_json(text, name)
            except (ValueError, RecursionError):
                pass
        document, has_more = first_document(raw, LIMITS)
    except InputError as error:
        raise ConfigError(f"{name}: {error.what}", error.remedy) from None
    warnings = [f"{name}: {text}" for text in document.duplicates]
    if has_more:
        warnings.append(f"{name}: only the first of several documents is read")
    return ConfigData(document.value, tuple(warnings))


def _parse_json(text: str, name: str) -> ConfigData:
    """Return the data of JSON text. Raises ValueError for other text."""
    warnings: list[str] = []

    def to_dict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        for key, value in pairs:
            if key in seen:
                warnings.append(f"{name}: key {describe(key)} twice, the last counts")
            seen[key] = value
        return seen

    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is not JSON")

    data = json.loads(text, object_pairs_hook=to_dict, parse_constant=refuse)
    return ConfigData(data, tuple(warnings))


def write_config(config: KubeProxyConfiguration) -> str:
    """
    Return the configuration as a v1alpha1 YAML document, keys sorted as kube-proxy does.

    Read back it gives the same configuration.
    """
    data = msgspec.to_builtins(config, enc_hook=str)
    return dump(data, sort_keys=True)
