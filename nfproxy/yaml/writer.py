"""Values → YAML that reads back as the same values, here and in Kubernetes."""

from __future__ import annotations

from typing import Any

import yaml

from nfproxy.yaml.values import plain_value


class _Dumper(yaml.SafeDumper):
    """PyYAML's dumper, which also quotes text that only Kubernetes takes for something else: y."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None if isinstance(plain_value(text), str) else "'"
    if not text.isprintable():  # PyYAML breaks lines at characters where YAML 1.1 would fold them
        style = '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def dump(data: Any, *, sort_keys: bool = False) -> str:
    """Return one document of plain values."""
    text: str = yaml.dump(data, Dumper=_Dumper, sort_keys=sort_keys, allow_unicode=True)
    return text
